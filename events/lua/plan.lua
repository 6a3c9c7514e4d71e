-- Plans a cron schedule: makes its cursor where there is none, and tells it.
--
-- ARGV: epoch, schedule, cron, timezone, policy for missed slots, 1 if the caller has just started, and
--       microseconds after which a declaration that nobody has planned by holds no more.
-- Reply: 'EPOCH', or the cursor, the time, both in microseconds of this server's clock, and 0 when the
--        caller's cron and timezone are those that hold; else for how many microseconds it stands by at least.
--
-- Of several releases that run, one declaration (cron and timezone) holds at a time: that of who started
-- last. A process of the release before it that is started again changes nothing: its declaration is the
-- `former` one. Who stands by takes over when nobody has planned by what holds for so long.
--
-- Invariants: only by the declaration that holds are slots fired (slot compares it). The cursor goes back only
-- when it is further ahead than any two servers' clocks: then this server's was, for a while. A schedule that
-- is new here, or whose declaration is, begins at this moment: slots before it are nobody's. One that has been
-- waited for begins where the one before it was seen last.

if epoch_differs() then return 'EPOCH' end
local name, cron, timezone, missed, begins = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
local now, silent, AHEAD, SELDOM = server_time(), tonumber(ARGV[7]), 60000000, 10000000
local slots = key('slots', name)
local before = redis.call('HMGET', slots, 'cursor', 'cron', 'timezone', 'missed', 'former', 'seen')
redis.call('SCARD', key('schedules'))
local cursor, seen = finite(before[1]), finite(before[6]) or 0
local holds = before[2] == cron and before[3] == timezone
local is_new = begins and before[5] ~= cron .. '\t' .. timezone
local quiet = math.abs(now - seen)

if cursor and not holds and not is_new and quiet < silent then
  return { whole(cursor), whole(now), whole(silent - quiet) }
end
if not cursor or not holds then
  local is_waited_for = cursor and not is_new and seen > 0
  cursor = is_waited_for and math.min(now, math.max(cursor, seen)) or now
  redis.call('HSET', slots, 'cursor', whole(cursor), 'cron', cron, 'timezone', timezone, 'missed', missed, 'seen',
             whole(now))
  if before[2] then redis.call('HSET', slots, 'former', before[2] .. '\t' .. (before[3] or '')) end
  redis.call('SADD', key('schedules'), name)
  return { whole(cursor), whole(now), '0' }
end
if begins and before[4] ~= missed then redis.call('HSET', slots, 'missed', missed) end
if quiet > SELDOM then redis.call('HSET', slots, 'seen', whole(now)) end
if cursor > now + AHEAD then
  cursor = now
  redis.call('HSET', slots, 'cursor', whole(cursor))
end
return { whole(cursor), whole(now), '0' }
