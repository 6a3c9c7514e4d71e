-- Tells what keeps a namespace from being at rest, at one moment. It walks over all subscribers and only reads: for
-- tests, which wait until nothing moves any more.
--
-- ARGV: an epoch that is ignored.
-- Reply: how much moves: deliveries that are ready or leased, and subscribers that are being back-filled. Of one that
--        is paused only what is leased moves, and nothing is filled;
--        microseconds until the first of what waits for its time is due, a retry, a scheduled event, a join's
--        time-out or a rate (-1: nothing does); 1 when history or outcomes have something that is not archived.
--
-- A lane that may move has moved in the step that made room for it. So what is left in lanes while a window is empty
-- waits for its rate, or for a decision: about a pause, or about the dead letter that holds its key.

local now, moving, soonest = server_time(), 0, nil

local function due(at)
  if at then soonest = math.min(soonest or tonumber(at), tonumber(at)) end
end

local function first_of(zset) return redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2] end

for _, S in ipairs(redis.call('SMEMBERS', key('subscribers'))) do
  local r = record(S)
  if r.paused then
    local pending = redis.pcall('XPENDING', r.queue, GROUP)
    moving = moving + (pending.err and 0 or pending[1])
  else
    moving = moving + r.used + (r.state == 'backfill' and 1 or 0)
  end
  due(first_of(r.delayed))
  due(first_of(key('joins', S)))
  if r.waiting > 0 then
    open_rate(r)
    local wait = opens_in(r)
    if wait then due(now + wait) end
  end
end
due(first_of(key('scheduled')))

local last = redis.call('XREVRANGE', key('history'), '+', '-', 'COUNT', 1)[1]
local archived = tonumber(redis.call('GET', key('archived')) or '0')
local is_behind = redis.call('XLEN', key('outcomes')) > 0
                  or (last and tonumber(string.match(last[1], '^%d+')) > archived)
return { moving, soonest and math.max(0, math.ceil(soonest - now)) or -1, is_behind and 1 or 0 }
