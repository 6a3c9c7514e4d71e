-- Gives the next position, for an event that is stored without being published; lifts the clock.
--
-- ARGV: epoch, floor (0 for none).
-- Reply: 'EPOCH', or the position.

if epoch_differs() then return 'EPOCH' end
read_clock()
clock = math.max(clock, tonumber(ARGV[2])) + 1
keep_clock()
return whole(clock)
