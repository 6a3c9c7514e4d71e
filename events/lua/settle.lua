-- Ends attempts: acknowledges, publishes what the handler returned, records the outcome and lets
-- the lane move, in one step for each item.
--
-- ARGV: epoch, consumer, max_routes, then per item 8 fields:
--   subscriber, entry id, delivery count   the lease's token, with the consumer
--   position, redelivery, lane             of the delivery, as its frame says; position 0 if unreadable
--   outcome    its line (see outcome); empty writes none
--   more       1 if 13 fields and events follow; without them the delivery has ended, and nothing comes of it:
--   action     end | again | dead
--   attempt    of the delivery
--   attempts   (again) attempts so far for the next try
--   delay      (again) microseconds from now, by the server's clock; 0 is not at all
--   reason, one line; traceback; output, kept with a dead letter
--   event, root, depth, scopes   of the handled event, for what it caused when Redis has forgotten its id
--   suspect    0: it is none; 1: it is one; 2: it is one, and this lease has counted a start of it (see begin)
--   events     how many returned events follow (see event_at); where an id is derived from
--              the work, its digest begins with ~
-- Reply: 'EPOCH', or per item `settled`, `refused` (the lease is not the caller's any more: another
-- worker has it, or an earlier send of this item settled it), or why its events were refused
-- (`CONFLICT ...`, `ROUTES ...`, `JOINS ...`, `DELIVERIES count limit`, tab-separated), in which case nothing
-- of the item was written; `LATER`, nothing was written either: the call has done enough for one step, send
-- the item again.
--
-- The token is (entry id, consumer, delivery count). Name alone would let an attempt settle that
-- lost the lease and whose process got it again. Settling goes on when memory is full, because it is
-- how one gets out of that. The lease is given up after the appends: should one fail, which only a
-- stream tampered with does, the delivery is still there and its returned events have their ids.
-- The outcome of a dead letter carries what its copy in SQL needs; the letter itself is kept until
-- somebody decides about it (see resolve). What silenced workers stays a suspect until an attempt at it ends by
-- itself: handed back unstarted it takes its starts along, none included.

if epoch_differs() then return 'EPOCH' end
local consumer, max_routes = ARGV[2], tonumber(ARGV[3])
local FIELDS, MORE, MORE_FIELDS = 8, 7, 13 -- where an item says that more follows
local MAX_RAW = 65536 -- bytes of what cannot be read
local now = server_time()
read_clock()
check_stream(key('history'))
check_stream(key('outcomes'))

local items, replies, batch = {}, {}, {}
local entries, leases = {}, {} -- per subscriber: of its items; what the consumer has of it, entry id -> delivery count
local said, ended = {}, {} -- per subscriber: how many the caller said it runs, and how many of it end here

local i = 4
while i <= #ARGV do
  local S = ARGV[i]
  local item = { S = S, entry = ARGV[i + 1], at = i, action = 'end' }
  if ARGV[i + MORE] == '1' then
    i = i + FIELDS
    item.action, item.attempt, item.attempts, item.delay = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    item.reason, item.traceback, item.output = ARGV[i + 4], ARGV[i + 5], ARGV[i + 6]
    item.event, item.scopes = ARGV[i + 7], ARGV[i + 10]
    item.handled = { root = ARGV[i + 8], depth = tonumber(ARGV[i + 9]) or 0, scopes = item.scopes }
    item.suspect, item.count = tonumber(ARGV[i + 11]) or 0, tonumber(ARGV[i + 12])
    item.events_at = i + MORE_FIELDS
    handled[item.event] = item.handled
    i = item.events_at + item.count * EVENT_FIELDS
  else
    i = i + FIELDS
  end
  entries[S] = entries[S] or {}
  table.insert(entries[S], item.entry)
  items[#items + 1] = item
end
for S, some in pairs(entries) do leases[S] = leases_on(key('queue', S), consumer, some) end

-- Reads what the item's events touch. Returns why they are refused, or nil.
local function events_refused(item, position, redelivery)
  local routed, reason = 0, nil
  item.events = {}
  for n = 1, item.count do
    local e = event_at(item.events_at + (n - 1) * EVENT_FIELDS, position .. ':' .. item.S .. ':' .. redelivery)
    if string.sub(e.digest, 1, 1) == '~' then e.digest, e.is_derived = string.sub(e.digest, 2), true end
    reason = refusal(e, max_routes, batch) or reason
    routed = routed + #routes_of(e.type)
    item.events[n] = e
  end
  if routed > MAX_RETURNED then reason = table.concat({ 'DELIVERIES', routed, MAX_RETURNED }, '\t') end
  for _, e in ipairs(item.events) do
    if reason and batch[e.id] == e then batch[e.id] = nil end
  end
  return reason
end

for n, item in ipairs(items) do
  local S, at = item.S, item.at
  local position, redelivery = ARGV[at + 3], ARGV[at + 4]
  local verdict = 'settled'
  local count = leases[S][item.entry]
  local mine = count and count == tonumber(ARGV[at + 2]) -- fence
  if not mine then
    verdict = 'refused'
  else
    local r = record(S)
    if r.ordered or item.action ~= 'end' then check_lane(r, ARGV[at + 5]) end
    if not said[S] then
      redis.call('ZCARD', r.delayed)
      said[S] = finite(redis.call('HGET', key('running', S), consumer)) or 0
    end
    if item.action == 'dead' then check_stream(r.dead) end
    if item.suspect == 2 then
      local name = position .. ':' .. redelivery
      item.starts = counted(redis.call('HGET', r.suspects, name)) or 0
    end
    if item.scopes then scopes_in(item.scopes) end
    if r.join_of or redelivery ~= '0' then redis.call('ZCARD', key('joins', S)) end
    if item.count and item.count > 0 then verdict = events_refused(item, position, redelivery) or verdict end
    if verdict == 'settled' then
      leases[S][item.entry] = nil -- an item settles once
    end
    if verdict == 'settled' and item.action ~= 'end' then
      local entry = redis.call('XRANGE', r.queue, item.entry, item.entry)[1]
      item.frame = entry and field_of(entry, 'f') or ''
    end
  end
  replies[n] = verdict
end

-- `again` keeps the body and writes the attempts so far into the header.
local function next_frame(item)
  local rest = string.match(item.frame, '^%d+\t%d+\t%d+\t(.*)$')
  return table.concat({ ARGV[item.at + 3], ARGV[item.at + 4], item.attempts, rest or '' }, '\t')
end

local function record_outcome(r, item, line)
  if item.action == 'dead' then
    local letter = append(r.dead, 'f', item.frame, 'r', item.reason, 't', item.traceback, 'a', item.attempt,
                          'w', consumer, 'o', item.output)
    append(key('outcomes'), 'o', line, 'd', whole(letter), 't', item.traceback, 'x', item.output,
           'f', item.event == '' and string.sub(item.frame, 1, MAX_RAW) or '')
  elseif line ~= '' then
    append(key('outcomes'), 'o', line)
  end
end

local function bring_back(r, item, lane, is_untouched)
  local frame = next_frame(item)
  if is_untouched then give_back_places(r, 1) end
  if item.delay == '0' then
    come_back(r, frame, lane)
  else
    redis.call('ZADD', r.delayed, whole(now + tonumber(item.delay)), frame)
  end
end

for n, item in ipairs(items) do
  if replies[n] == 'settled' and had_enough() then
    replies[n] = 'LATER'
  elseif replies[n] == 'settled' then
    local r, at = record(item.S), item.at
    local lane, line = ARGV[at + 5], ARGV[at + 6]
    -- made only where somebody asks for it; `suspect` is a number wherever more fields came
    local name = (r.ordered or r.has_suspects or item.suspect) and ARGV[at + 3] .. ':' .. ARGV[at + 4]
    if not r.ended then
      although_full(r.queue)
      r.ended = {}
    end
    if item.events then
      handled[item.event] = item.handled -- its join, if it settles here too, is in fewer scopes
      for _, e in ipairs(item.events) do publish(e) end
    end
    record_outcome(r, item, line)
    r.ended[#r.ended + 1] = item.entry
    r.used = r.used - 1
    if item.action == 'again' then
      bring_back(r, item, lane, line == '')
    else
      if item.scopes then leave_scopes(item.scopes, item.action == 'dead') end
      if item.action == 'end' then forget_join(r, ARGV[at + 3], ARGV[at + 4] ~= '0') end
      if item.action == 'end' or r.dead_policy ~= 'block' then let_go(r, lane, name) end
    end
    if item.action ~= 'again' or line ~= '' then
      if r.has_suspects then redis.call('HDEL', r.suspects, name) end
    elseif item.suspect == 1 then
      redis.call('HSETNX', r.suspects, name, '0')
      r.has_suspects = true
    elseif item.suspect == 2 then -- counted, and never started
      redis.call('HSET', r.suspects, name, whole(math.max(0, item.starts - 1)))
    end
    if line ~= '' then ended[item.S] = (ended[item.S] or 0) + 1 end
  end
end
for _, r in pairs(records) do
  if r.ended then
    redis.call('XACK', r.queue, GROUP, unpack(r.ended))
    redis.call('XDEL', r.queue, unpack(r.ended))
  end
end
for S, count in pairs(ended) do
  local less = math.min(count, said[S])
  if less > 0 then
    redis.call('HSET', key('running', S), consumer, whole(said[S] - less))
    now_running(record(S), math.max(0, record(S).running - less))
  end
end
keep_clock()
keep_scopes()
for _, r in pairs(records) do admit(r) end
return replies
