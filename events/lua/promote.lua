-- Tends queues: brings due retries back to the head of their lanes, lets go of joins that have waited for
-- too long, and lets lanes move; notes that the caller lives, and what it is busy with.
--
-- ARGV: epoch, consumer, most retries to bring back (about 8 MB of them at most), what the caller says of
--       itself (JSON, opaque here; the empty text leaves what it said before), then pairs of a subscriber and
--       how many of its handlers have been running in the caller for a while, or usually do. Who is not declared is
--       left out.
-- Reply: 'EPOCH', or the number of retries brought back; microseconds until something is due that
--        nobody else announces, a retry or a rate (-1: nothing); likewise until an event is due that was
--        scheduled (see release); microseconds before which the caller need not tell more; the subscribers that
--        are paused; those that are being back-filled; those
--        of whom more waits than their unlimited window lets in until more of them runs.
--
-- An unlimited window follows what runs: the sum of what the fleet's workers said last, less what has
-- settled since, kept in the record. So slow handlers fill every worker, and what waits unstarted stays
-- bounded, which leaves projects their turns. What a worker holds that has fallen silent takes no room:
-- the others go on until it is taken over.
--
-- All workers together come some 200 times a second, however many they are, and with many subscribers each less often:
-- without that, each would come whenever anything is due, or more runs.

local EVERY_US = 5000
local MANY = 8 -- subscribers, from which on a call costs mostly them
local LIVE_US = 5000000 -- workers beat once a second
if epoch_differs() then return 'EPOCH' end
local consumer, budget, beat, promoted, soonest = ARGV[2], tonumber(ARGV[3]), ARGV[4], 0, nil
local paused, filling, held_back = {}, {}, {}
local workers, size = 1, 0
local now = server_time()
local live = { [consumer] = true }
for _, name in ipairs(redis.call('ZRANGEBYSCORE', key('workers'), whole(now - LIVE_US), '+inf')) do
  live[name] = true
end
redis.call('HLEN', key('beats'))
local scheduled = redis.pcall('ZRANGE', key('scheduled'), 0, 0, 'WITHSCORES') -- a wrong type is release's affair
local due_in = scheduled[2] and math.max(0, math.floor(tonumber(scheduled[2]) - now)) or -1
local found, tended = {}, {}
for i = 5, #ARGV, 2 do
  if record(ARGV[i]).declared then tended[#tended + 1] = i end -- one that was dropped comes not back by a beat
end
for _, i in ipairs(tended) do
  local S = ARGV[i]
  local before, running = redis.call('HGETALL', key('running', S)), tonumber(ARGV[i + 1])
  local alive = 1
  for f = 1, #before, 2 do
    if before[f] ~= consumer and live[before[f]] then
      alive, running = alive + 1, running + (finite(before[f + 1]) or 0)
    end
  end
  workers = math.max(workers, alive)
  local r = record(S)
  local pending = redis.pcall('XPENDING', r.queue, GROUP)
  for _, held in ipairs(not pending.err and pending[4] or {}) do
    if not live[held[1]] then running = running + tonumber(held[2]) end
  end
  local due, lanes, has_more = {}, {}, true
  redis.call('ZCARD', r.delayed)
  while has_more and budget > 0 and size < MAX_MOVED do
    local count = math.min(budget, READ_AT_ONCE)
    local page = redis.call('ZRANGEBYSCORE', r.delayed, '-inf', whole(now), 'LIMIT', #due, count)
    has_more = #page == count
    for _, frame in ipairs(page) do
      if size < MAX_MOVED then
        due[#due + 1] = frame
        lanes[#due] = waits_in(frame)
        check_lane(r, lanes[#due])
        budget, size = budget - 1, size + string.len(frame)
      end
    end
  end
  local has_joins = r.join_of and size < MAX_MOVED
  local late = has_joins and redis.call('ZRANGEBYSCORE', key('joins', S), '-inf', whole(now), 'LIMIT', 0, 100) or {}
  for n, position in ipairs(late) do
    local s = scope(S .. '/' .. position)
    size = size + string.len(s and s.frame or '')
    if size >= MAX_MOVED then late[n + 1] = nil end -- the rest goes with the next call
  end
  found[#found + 1] = { S = S, mine = ARGV[i + 1], running = running, r = r, due = due, lanes = lanes, late = late }
end

for _, of in ipairs(found) do
  local S, r, due = of.S, of.r, of.due
  although_full(r.queue)
  for n = #due, 1, -1 do
    redis.call('ZREM', r.delayed, due[n])
    come_back(r, due[n], of.lanes[n])
  end
  promoted = promoted + #due
  for _, position in ipairs(of.late) do
    local s = scope(S .. '/' .. position)
    if s and s.frame then decide(s, 'timeout') else redis.call('ZREM', key('joins', S), position) end
  end
  redis.call('HSET', key('running', S), consumer, of.mine)
  now_running(r, of.running)
  admit(r)
  local next_retry = redis.call('ZRANGE', r.delayed, 0, 0, 'WITHSCORES')[2]
  local opens = r.cut and r.waiting > 0 and 0 or opens_in(r) or -1
  for _, wait in ipairs({ opens, next_retry and math.max(0, tonumber(next_retry) - now) or -1 }) do
    if wait >= 0 then soonest = math.min(soonest or wait, wait) end
  end
  if r.paused then paused[#paused + 1] = S end
  if r.state == 'backfill' then filling[#filling + 1] = S end
  if not r.limit and not r.paused and r.waiting > 0 and r.used >= r.window then held_back[#held_back + 1] = S end
end
redis.call('ZADD', key('workers'), whole(now), consumer)
if beat ~= '' then redis.call('HSET', key('beats'), consumer, beat) end
-- The last digits of the time keep workers apart that began together.
if soonest then soonest = math.max(soonest, EVERY_US * workers * (0.5 + now % 1000 / 1000)) end
local tell_in = math.floor(EVERY_US * workers * math.max(1, #tended / MANY))
return { promoted, soonest and math.floor(soonest) or -1, due_in, tell_in, paused, filling, held_back }
