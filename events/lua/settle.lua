-- Ends attempts: acknowledges, publishes what the handler returned, records the outcome and lets
-- the lane move, in one step for each item.
--
-- ARGV: epoch, consumer, max_routes, then per item 21 fields and its events (see event_at):
--   subscriber, entry id, delivery count   the lease's token, with the consumer
--   action     end | again | dead
--   state      the outcome's word; empty writes no outcome
--   position, redelivery, attempt, lane    of the delivery, as its frame says; position 0 if unreadable
--   attempts   (again) attempts so far for the next try
--   delay      (again) microseconds from now, by the server's clock; 0 is not at all
--   elapsed    microseconds; reason, one line; traceback; output, kept with a dead letter
--   event, root, depth, scopes   of the handled event, for what it caused when Redis has forgotten its id
--   begun      1 if this lease has counted a start of a suspect (see begin)
--   events     how many returned events follow
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
-- itself: handed back unstarted it takes its starts along.

if epoch_differs() then return 'EPOCH' end
local consumer, max_routes = ARGV[2], tonumber(ARGV[3])
local ITEM_FIELDS = 21
local MAX_RAW = 65536 -- bytes of what cannot be read
local now = server_time()
read_clock()
check_stream(key('history'))
check_stream(key('outcomes'))

local items, replies, batch, taken = {}, {}, {}, {}
local said, ended = {}, {} -- per subscriber: how many the caller said it runs, and how many of it end here
local i = 4
while i <= #ARGV do
  local S = ARGV[i]
  local item = {
    S = S, entry = ARGV[i + 1], count = ARGV[i + 2], action = ARGV[i + 3], state = ARGV[i + 4], position = ARGV[i + 5],
    redelivery = ARGV[i + 6], attempt = ARGV[i + 7], lane = ARGV[i + 8], attempts = ARGV[i + 9], delay = ARGV[i + 10],
    elapsed = ARGV[i + 11], reason = ARGV[i + 12], traceback = ARGV[i + 13], output = ARGV[i + 14], events = {},
  }
  item.event, item.scopes = ARGV[i + 15], ARGV[i + 18]
  item.handled = { root = ARGV[i + 16], depth = tonumber(ARGV[i + 17]) or 0, scopes = item.scopes }
  handled[item.event] = item.handled
  item.begun = ARGV[i + 19] == '1'
  local events, routed = tonumber(ARGV[i + 20]), 0
  i = i + ITEM_FIELDS
  item.name = item.position .. ':' .. item.redelivery

  local verdict = 'settled'
  local lease = lease_on(key('queue', S), item.entry)
  local mine = lease and lease[2] == consumer and whole(lease[4]) == item.count -- fence
  if not mine or taken[S .. '\t' .. item.entry] then
    verdict = 'refused'
  else
    local r = record(S)
    check_lane(r, item.lane)
    redis.call('ZCARD', r.delayed)
    said[S] = said[S] or tonumber(redis.call('HGET', key('running', S), consumer) or '0')
    if item.action == 'dead' then check_stream(r.dead) end
    redis.call('HLEN', r.suspects)
    scopes_in(item.scopes)
    if r.join_of or item.redelivery ~= '0' then redis.call('ZCARD', key('joins', S)) end
    for n = 1, events do
      local e = event_at(i + (n - 1) * EVENT_FIELDS, item.position .. ':' .. S .. ':' .. item.redelivery)
      local reason = refusal(e, max_routes, batch)
      if reason then verdict = reason end
      routed = routed + #routes_of(e.type)
      item.events[n] = e
    end
    if routed > MAX_RETURNED then verdict = table.concat({ 'DELIVERIES', routed, MAX_RETURNED }, '\t') end
    for _, e in ipairs(item.events) do
      if verdict ~= 'settled' and batch[e.id] == e then batch[e.id] = nil end
    end
    taken[S .. '\t' .. item.entry] = verdict == 'settled'
    if verdict == 'settled' and item.action ~= 'end' then
      local entry = redis.call('XRANGE', r.queue, item.entry, item.entry)[1]
      local fields = entry and entry[2] or {}
      for n = 1, #fields, 2 do
        if fields[n] == 'f' then item.frame = fields[n + 1] end
      end
      item.frame = item.frame or ''
    end
  end
  i = i + events * EVENT_FIELDS
  items[#items + 1] = item
  replies[#replies + 1] = verdict
end

-- `again` keeps the body and writes the attempts so far into the header.
local function next_frame(item)
  local rest = string.match(item.frame, '^%d+\t%d+\t%d+\t(.*)$')
  return table.concat({ item.position, item.redelivery, item.attempts, rest or '' }, '\t')
end

for n, item in ipairs(items) do
  if replies[n] == 'settled' and had_enough() then
    replies[n] = 'LATER'
  elseif replies[n] == 'settled' then
    local r = record(item.S)
    although_full(r.queue)
    handled[item.event] = item.handled -- its join, if it settles here too, is in fewer scopes
    for _, e in ipairs(item.events) do publish(e) end
    if item.action == 'dead' then
      local letter = append(r.dead, 'f', item.frame, 'r', item.reason, 't', item.traceback, 'a', item.attempt,
                            'w', consumer, 'o', item.output)
      outcome(item.position, item.S, item.redelivery, item.attempt, item.state, consumer, item.elapsed, item.reason,
              'd', whole(letter), 't', item.traceback, 'x', item.output,
              'f', item.event == '' and string.sub(item.frame, 1, MAX_RAW) or '')
    elseif item.state ~= '' then
      outcome(item.position, item.S, item.redelivery, item.attempt, item.state, consumer, item.elapsed, item.reason)
    end
    redis.call('XACK', r.queue, GROUP, item.entry)
    redis.call('XDEL', r.queue, item.entry)
    r.used = r.used - 1
    if item.action == 'again' then
      local frame = next_frame(item)
      if item.state == '' then give_back_places(r, 1) end
      if item.delay == '0' then
        come_back(r, frame, item.lane)
      else
        redis.call('ZADD', r.delayed, whole(now + tonumber(item.delay)), frame)
      end
    else
      leave_scopes(item.scopes, item.action == 'dead')
      if item.action == 'end' then forget_join(r, item.position, item.redelivery ~= '0') end
      if item.action == 'end' or r.dead_policy ~= 'block' then let_go(r, item.lane, item.name) end
    end
    if item.action ~= 'again' or item.state ~= '' then
      redis.call('HDEL', r.suspects, item.name)
    elseif item.begun and redis.call('HINCRBY', r.suspects, item.name, -1) < 0 then -- counted, and never started
      redis.call('HSET', r.suspects, item.name, '0')
    end
    if item.state ~= '' then ended[item.S] = (ended[item.S] or 0) + 1 end
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
