-- Plans a cron schedule: makes its cursor where there is none, and tells it.
--
-- ARGV: epoch, schedule, cron, timezone, policy for missed slots, 1 if the caller has just started.
-- Reply: 'EPOCH', or the cursor, and the time, both in microseconds of this server's clock.
--
-- Invariant: the cursor never goes back. A schedule that is new here, or whose cron or timezone a starting
-- process declares anew, begins at this moment: slots before it are nobody's.

if epoch_differs() then return 'EPOCH' end
local name, now = ARGV[2], server_time()
local slots = key('slots', name)
local before = redis.call('HMGET', slots, 'cursor', 'cron', 'timezone', 'missed')
redis.call('SCARD', key('schedules'))
local cursor = tonumber(before[1])
local differs = before[2] ~= ARGV[3] or before[3] ~= ARGV[4]
if not cursor or (ARGV[6] == '1' and differs) then
  cursor = math.max(cursor or 0, now)
  redis.call('HSET', slots, 'cursor', whole(cursor), 'cron', ARGV[3], 'timezone', ARGV[4], 'missed', ARGV[5])
  redis.call('SADD', key('schedules'), name)
elseif ARGV[6] == '1' and before[4] ~= ARGV[5] then
  redis.call('HSET', slots, 'missed', ARGV[5])
end
return { whole(cursor), whole(now) }
