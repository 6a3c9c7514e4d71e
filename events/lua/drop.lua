-- Drops a subscriber for good, a bounded step at a time: its routes, what waits for it, then itself.
--
--   live, paused, backfill ──first call──> dropping ──calls──> dropping ──last call──> absent
--                             no routes, nothing more begins    ──declare──> live
--
-- ARGV: epoch, subscriber, 1 to end what workers hold too, 1 to end its dead letters too, most to end in
--       this call.
-- Reply: 'EPOCH', 'UNKNOWN' (nobody declared it, or it is gone), or what, a number, and dead letters ended:
--   HELD     nothing was written: workers hold that many of its deliveries
--   DEAD     nothing was written: that many dead letters are kept for it
--   MORE     that many deliveries were ended, as many as asked for or about 8 MB: call again
--   GONE     likewise, and the subscriber is no more
--
-- Each delivery ends with the outcome `dropped`, in the step that removes it, and each dead letter with one
-- that names it and decides about it, as those of resolve do. So a drop that was interrupted can be repeated,
-- and one that never is leaves a subscriber that can be declared again. Joins that wait for it are told that
-- something is missing: what is dropped counts as dead. A lease that is ended here is nobody's: what comes of
-- its handler is refused, and what it returns is not published. It frees memory, so it runs on a full server.

if epoch_differs() then return 'EPOCH' end
local S, budget, WHY = ARGV[2], tonumber(ARGV[5]), 'the subscriber was dropped'
local r = record(S)
if not r.declared then return 'UNKNOWN' end
read_clock()
check_stream(key('outcomes'))
check_stream(r.dead)
local joins, running = key('joins', S), key('running', S)
redis.call('HLEN', r.suspects)
redis.call('HLEN', running)
redis.call('ZCARD', joins)
redis.call('SCARD', key('subscribers'))
for kind in string.gmatch(r.types, '[^\t]+') do redis.call('SCARD', key('routes', kind)) end

local grouped = has_group(r.queue)
local held = grouped and redis.call('XPENDING', r.queue, GROUP)[1] or 0
local letters = redis.call('XLEN', r.dead)
if held > 0 and ARGV[3] ~= '1' then return { 'HELD', held, 0 } end
if letters > 0 and ARGV[4] ~= '1' then return { 'DEAD', letters, 0 } end

-- What this call ends, read before the first write. `attempts` are those beyond the ones in the frame.
local ending, size, scanned = {}, 0, true
local function has_room() return budget > 0 and size < MAX_MOVED end

-- Reads on from where `page` is, until nothing is left or this call has enough.
local function while_room(page, take)
  local at, count = 0, 0
  while has_room() do
    count = math.min(budget, READ_AT_ONCE)
    local found = page(at, count)
    for _, one in ipairs(found) do
      if has_room() then take(one) end
    end
    if #found < count then return end
    at = at + count
  end
end

local LAST_ID = '18446744073709551615-18446744073709551615' -- nothing can follow it
local function entries_of(stream)
  local start = '-'
  return function(_, count)
    if not start then return {} end
    local page = redis.call('XRANGE', stream, start, '+', 'COUNT', count)
    local last = page[1] and page[#page][1]
    start = last and last ~= LAST_ID and '(' .. last
    return page
  end
end

local function ends(frame, attempts, how)
  local joined = string.match(frame, '^[^\n]*\t([^\t\n]*)\n') or ''
  scopes_in(joined)
  local lane = waits_in(frame)
  check_lane(r, lane)
  how.frame, how.lane, how.attempts, how.scopes = frame, lane, attempts, joined
  ending[#ending + 1] = how
  budget, size = budget - 1, size + string.len(frame)
end

local leases = {}
if held > 0 and budget > 0 then
  for _, lease in ipairs(redis.call('XPENDING', r.queue, GROUP, '-', '+', budget)) do leases[lease[1]] = lease end
end
while_room(entries_of(r.queue), function(entry)
  local lease = leases[entry[1]]
  ends(field_of(entry, 'f') or '', lease and lease[4] or 0, { entry = entry[1], worker = lease and lease[2] })
end)
while_room(function(at, count) return redis.call('ZRANGE', r.delayed, at, at + count - 1) end,
           function(frame) ends(frame, 0, { delayed = true }) end)
local emptied = {}
local function ends_lane(lane)
  if not has_room() or emptied[lane] then return end
  emptied[lane] = true
  while_room(function(at, count) return redis.call('LRANGE', lane_key(r, lane), at, at + count - 1) end,
             function(frame) ends(frame, 0, { listed = lane }) end)
end
if has_room() then
  for _, lane in ipairs(redis.call('ZRANGE', r.lanes, 0, budget - 1)) do ends_lane(lane) end
end
local let = {}
if has_room() then
  local page = redis.call('HSCAN', r.held, 0, 'COUNT', budget)
  scanned = page[1] == '0'
  for f = 1, #page[2], 2 do
    ends_lane(page[2][f])
    if has_room() then let[#let + 1] = page[2][f] end
  end
end
while_room(function(at, count) return redis.call('ZRANGE', joins, at, at + count - 1) end, function(position)
  local s = scope(S .. '/' .. position)
  ends(s and s.frame or '', 0, { parked = position })
end)
while_room(entries_of(r.dead), function(entry)
  ends(field_of(entry, 'f') or '', 0, { letter = entry[1] })
  size = size + bytes_of(entry)
end)

local function remove(e, name)
  if e.entry then
    if grouped then redis.call('XACK', r.queue, GROUP, e.entry) end
    redis.call('XDEL', r.queue, e.entry)
  elseif e.delayed then
    redis.call('ZREM', r.delayed, e.frame)
  elseif e.listed then
    redis.call('LPOP', lane_key(r, e.listed))
    if redis.call('EXISTS', lane_key(r, e.listed)) == 0 then redis.call('ZREM', r.lanes, e.listed) end
  elseif e.parked then
    redis.call('ZREM', joins, e.parked)
  else
    redis.call('XDEL', r.dead, e.letter)
  end
  let_go(r, e.lane, name)
end

although_full(r.queue)
for kind in string.gmatch(r.types, '[^\t]+') do redis.call('SREM', key('routes', kind), S) end
redis.call('HSET', key('sub', S), 'state', 'dropping', 'types', '')
redis.call('HDEL', key('sub', S), 'cursor')
r.window = 0 -- for a join of its own that is let go here
local removed = 0
for _, e in ipairs(ending) do
  local position, redelivery, attempts = string.match(e.frame, '^(%d+)\t(%d+)\t(%d+)\t')
  local attempt = e.letter and '0' or whole((tonumber(attempts) or 0) + e.attempts)
  outcome(position or '0', S, redelivery or '0', attempt, 'dropped', e.worker or '', '0', WHY,
          unpack(e.letter and { 'd', string.match(e.letter, '^%d+') } or {}))
  if e.letter then removed = removed + 1 else leave_scopes(e.scopes, true) end
  remove(e, name_of(e.frame))
  if position then forget_join(r, position, true) end
  redis.call('HDEL', r.suspects, name_of(e.frame))
end
for _, lane in ipairs(let) do redis.call('HDEL', r.held, lane) end
keep_clock()
keep_scopes()
for _, other in pairs(records) do
  if other ~= r then admit(other) end
end
if not has_room() or not scanned or redis.call('ZCARD', r.lanes) > 0 then
  return { 'MORE', #ending - removed, removed }
end
redis.call('DEL', key('sub', S), r.queue, r.lanes, r.held, r.delayed, r.dead, r.suspects, joins, running)
redis.call('SREM', key('subscribers'), S)
return { 'GONE', #ending - removed, removed }
