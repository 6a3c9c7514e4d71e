-- Counts the start of a suspect: a delivery that was taken over from a worker that fell silent.
--
-- ARGV: epoch, consumer, subscriber, entry id, delivery count, delivery name.
-- Reply: 'EPOCH', 'refused' (the lease is not the caller's), or the starts so far, this one included.

if epoch_differs() then return 'EPOCH' end
local lease = lease_on(key('queue', ARGV[3]), ARGV[4])
if not (lease and lease[2] == ARGV[2] and whole(lease[4]) == ARGV[5]) then return 'refused' end
local starts = (counted(redis.call('HGET', key('suspects', ARGV[3]), ARGV[6])) or 0) + 1
although_full(key('queue', ARGV[3]))
redis.call('HSET', key('suspects', ARGV[3]), ARGV[6], whole(starts))
return starts
