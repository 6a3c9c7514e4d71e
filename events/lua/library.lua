-- Prepended to every script, after the legend of keys (`suffix`, GROUP) that events/keys.py writes.
--
-- What holds for every script here:
--   * KEYS[1] is `{ns}:meta`; every other key shares its hash tag. ARGV[1] is the caller's epoch.
--   * Everything is read and type-checked before the first write: Lua in Redis has no rollback.
--   * Bodies are opaque bytes; nothing here looks into them.
--   * Positions are integers below 2^53: exact as doubles, printed with %.0f, never with `..`.
--
-- A delivery as queued is a frame: a header, a newline, the event's body. The header's fields are
-- separated by tabs, which publishers refuse in names:
--   position, redelivery, attempts so far, depth, type, root, lane, priority, scopes
-- A delivery's name, unique within its subscriber, is `<position>:<redelivery>`.

local ns = string.sub(KEYS[1], 1, -1 - string.len(suffix.meta))
local MAX_POSITION = 9007199254740000
local ADMIT_LIMIT = 1000
local MAX_DELIVERIES = 5000 -- of one script call: some 75 ms of a server that does nothing else
local MAX_WRITTEN = 32000000 -- bytes, likewise
local MAX_MOVED = 8000000 -- bytes of what is read to be moved or ended in one call; the last one may exceed it
local READ_AT_ONCE = 4 -- of what may be large: nobody knows its size before it is read
local ROUNDS_AT_ONCE = 8 -- likewise, off each of the lanes that are let in
local MAX_RETURNED = 20000 -- deliveries of what one handler returns, which cannot be split
local READY_BASE = 160 -- of an unlimited window: what may wait for workers beyond what they run, at least
local READY_BATCHES = 4 -- likewise of a subscriber that takes batches: two workers run one, and have the next
local DAY = 86400000000 -- microseconds: a join's timeout where a hand has written another word
local PRIORITY_STEP = 100000000000000 -- above every turn: a turn never outweighs a priority

local function key(name, part) return ns .. suffix[name] .. (part or '') end
local function whole(number) return string.format('%.0f', number) end

-- The number that a text says; nil of what is none, and of infinities and NaN, with which no window can be counted.
local function finite(text)
  local number = tonumber(text or '')
  return number and number - number == 0 and number or nil
end

-- The same of what counts things: nil of what is not whole, or less than nothing, or no exact double.
local function counted(text)
  local number = finite(text)
  return number and number >= 0 and number <= MAX_POSITION and number % 1 == 0 and number or nil
end

local function server_time()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

-- A full server refuses a script at its first write, if that write could grow memory, and lets the
-- rest pass. What must go on when memory is full, because it frees some, begins with this write of
-- nothing. A read-only server refuses it, as it should.
local function although_full(queue) redis.call('XACK', queue, GROUP, '0-0') end

local function bytes_of(entry)
  local size = 0
  for f = 2, #entry[2], 2 do size = size + string.len(entry[2][f]) end
  return size
end

-- A field of a stream entry; of a name that somebody wrote twice, the one that workers read: the last.
local function field_of(entry, name)
  local value
  for f = 1, #entry[2], 2 do
    if entry[2][f] == name then value = entry[2][f + 1] end
  end
  return value
end

local function epoch_differs() return redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] end

-- clock ---------------------------------------------------------------------------------------
-- Invariant: a position is later than every position given before, whatever the server's time does.

local clock

local function read_clock()
  local last = tonumber(redis.call('GET', key('clock')) or '0')
  if not (last and last < MAX_POSITION) then -- NaN is less than nothing
    error({ err = 'ERR ' .. key('clock') .. ' holds no position, a hand has written there: delete it, and it begins '
                  .. 'anew with the time' })
  end
  clock = math.max(last, server_time() - 1)
end

local function keep_clock() redis.call('SET', key('clock'), whole(clock)) end

local function beyond(stream)
  return { err = 'ERR ' .. stream .. ' holds an entry id beyond the year 2255, written by hand: '
                 .. 'when all before it is archived, RENAME the stream (XDEL leaves its last id as it is)' }
end

-- Reads a stream that will be appended to: a wrong type, or an entry after which nothing can be
-- appended, is an error before the first write.
local function check_stream(stream)
  if redis.call('XRANGE', stream, whole(MAX_POSITION), '+', 'COUNT', 1)[1] then error(beyond(stream)) end
end

-- Appends at the next position. An entry written by hand with a later id lifts the clock past it.
local function append(stream, ...)
  clock = clock + 1
  local reply = redis.pcall('XADD', stream, string.format('%.0f-0', clock), ...)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'equal or smaller', 1, true) then error(reply) end
    local info = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        clock = math.max(clock, tonumber(string.match(info[i + 1], '^(%d+)')))
      end
    end
    if clock >= MAX_POSITION then error(beyond(stream)) end
    clock = clock + 1
    redis.call('XADD', stream, whole(clock) .. '-0', ...)
  end
  return clock
end

-- The lease on an entry: entry id, consumer, idle milliseconds, delivery count. Nil when nobody has it, and when
-- the queue has no group any more: its subscriber was dropped, and one item of a call must not fail its
-- neighbours. That Redis lost a group is told by reading, which fails with NOGROUP.
local function lease_on(queue, entry)
  local found = redis.pcall('XPENDING', queue, GROUP, entry, entry, 1)
  if found.err and not string.find(found.err, 'NOGROUP', 1, true) then error(found) end
  return found[1]
end

-- The leases of a consumer on some entries of a queue: entry id -> delivery count, of none that is another's. One
-- listing of its oldest leases answers for nearly all; what it did not come to is asked for singly.
local function leases_on(queue, consumer, entries)
  local limit, held = #entries + 16, {}
  local listed = redis.pcall('XPENDING', queue, GROUP, '-', '+', limit, consumer)
  if listed.err then
    if not string.find(listed.err, 'NOGROUP', 1, true) then error(listed) end
    return held
  end
  for _, lease in ipairs(listed) do held[lease[1]] = lease[4] end
  if #listed == limit then
    for _, entry in ipairs(entries) do
      local lease = not held[entry] and lease_on(queue, entry)
      if lease and lease[2] == consumer then held[entry] = lease[4] end
    end
  end
  return held
end

-- subscribers and their windows ---------------------------------------------------------------

local records = {}

-- A limit that an operator set goes before the one in code; the empty text is no limit.
local function limit_of(set, declared) return finite(set or declared) end

-- Of an unlimited window: what may wait beyond what runs. A record of old, or one for single events, names no batch.
local function base_of(batch) return math.max(READY_BASE, READY_BATCHES * (finite(batch) or 1)) end

local function record(S)
  local r = records[S]
  if r then return r end
  local v = redis.call('HMGET', key('sub', S), 'ordering', 'state', 'dead', 'paused', 'running', 'tat',
                       'concurrency', 'set_concurrency', 'rate', 'set_rate', 'join_of', 'join_timeout', 'types',
                       'cursor', 'first_redelivery', 'batch')
  r = {
    name = S, ordering = v[1] or '', state = v[2] or 'live', dead_policy = v[3] or 'skip', tat = finite(v[6]) or 0,
    limit = limit_of(v[8], v[7]), rate = limit_of(v[10], v[9]),
    queue = key('queue', S), lanes = key('lanes', S), held = key('held', S),
    lane = key('lane', S) .. ':', delayed = key('delayed', S), dead = key('dead', S), suspects = key('suspects', S),
    checked = {}, listed = {},
  }
  r.ordered = r.ordering ~= ''
  if v[11] and v[11] ~= '' then r.join_of, r.join_timeout = '\t' .. v[11] .. '\t', finite(v[12]) or DAY end
  r.types, r.cursor, r.first_redelivery = v[13] or '', v[14] or '0', v[15] or '0'
  r.declared = v[13] and true or false
  r.paused = v[4] == '1' or r.state == 'dropping'
  r.running = finite(v[5]) or 0
  r.base = base_of(v[16])
  r.window = r.paused and 0 or r.limit or r.base + r.running
  r.used = redis.call('XLEN', r.queue)
  r.waiting = redis.call('ZCARD', r.lanes)
  if r.ordered then redis.call('HLEN', r.held) end
  r.has_suspects = redis.call('HLEN', r.suspects) > 0
  records[S] = r
  return r
end

-- Takes over how many handlers run in the fleet. A window without a limit follows it, so what has not been
-- started stays bounded: a new project's turn comes soon, however many handlers run.
local function now_running(r, count)
  redis.call('HSET', key('sub', r.name), 'running', whole(count))
  if not r.limit and not r.paused then r.window = r.base + count end
  r.running = count
end

local function lane_key(r, lane) return r.lane .. lane end

-- Reads the lane's key, so that a key of a wrong type is an error before the first write.
local function check_lane(r, lane)
  if not r.checked[lane] then
    redis.call('LLEN', lane_key(r, lane))
    r.checked[lane] = true
  end
end

-- Which lane an event waits in. Unordered subscribers take turns between projects, and what is urgent
-- has lanes of its own; order goes before urgency, so an ordered lane holds every priority.
local function lane_of(r, e, root)
  if r.ordering == 'correlation' then return root end
  if r.ordering == 'order_key' then return e.order_key ~= '' and e.order_key or e.id end
  if r.ordering == 'project' or e.priority == '0' then return e.project end
  return e.project .. '\31' .. e.priority
end

local function name_of(frame)
  local position, redelivery = string.match(frame, '^(%d+)\t(%d+)\t')
  return position and (position .. ':' .. redelivery) or ''
end

-- Lane and priority of a frame; nothing and 0 of what is none.
local LANE = '^%d+\t%d+\t%d+\t%d*\t[^\t\n]*\t[^\t\n]*\t([^\t\n]*)\t?(-?%d*)'
local function waits_in(frame)
  local lane, priority = string.match(frame, LANE)
  return lane or '', tonumber(priority) or 0
end

-- What most events have in common is not written: that they are roots themselves, and were published by nobody's
-- handler. It is most of what a header has.
local function rooted(root, id) return root ~= id and root or '' end
local function by_handler(origin) return origin ~= 'publish' and origin or '' end

local function framed(header, body) return table.concat(header, '\t') .. '\n' .. body end

local function takes(r, kind)
  local types = '\t' .. r.types .. '\t'
  return (string.find(types, '\t' .. kind .. '\t', 1, true) or string.find(types, '\t*\t', 1, true)) and true or false
end

-- Gives the next turns, that many, and returns the last one. Where a hand has written what is no turn, they go on
-- after that of the last lane that waits. Turns are taken in the middle of writing, so nothing here can fail:
-- the types of both keys are checked (record).
local function take_turn(r, count)
  if not r.turn then
    local turn = counted(redis.call('HGET', key('sub', r.name), 'turn') or '0')
    if not turn or turn >= PRIORITY_STEP then
      local last = redis.call('ZRANGE', r.lanes, -1, -1, 'WITHSCORES')[2]
      turn = math.floor((finite(last) or 0) % PRIORITY_STEP)
    end
    r.turn = turn
  end
  r.turn = r.turn + count
  redis.call('HSET', key('sub', r.name), 'turn', whole(r.turn))
  return r.turn
end

-- Invariant: a lane is in `lanes` exactly when its list has a head that may move: the list is not
-- empty, and (ordered) nobody holds the lane, or its head is the holder come back. The head says how
-- urgent the lane is; among the equally urgent it is turns.
local function may_move(r, lane, head)
  if r.listed[lane] then return end
  local _, priority = waits_in(head)
  local place = whole(take_turn(r, 1) - priority * PRIORITY_STEP)
  if redis.call('ZADD', r.lanes, 'NX', place, lane) == 1 then r.waiting = r.waiting + 1 end
  r.listed[lane] = true
end

-- Puts a delivery that came back (retry, hand-back) at the head of its lane. It still holds an
-- ordered lane, so the lane may move.
local function come_back(r, frame, lane)
  redis.call('LPUSH', lane_key(r, lane), frame)
  may_move(r, lane, frame)
end

-- An entry's fields. A suspect that comes back unstarted is one still, and whoever reads it learns from its entry
-- how often it was started and silenced the worker: reading asks for nothing else.
local function entry_of(r, frame, name)
  local starts = r.has_suspects and redis.call('HGET', r.suspects, name)
  if starts then return 'f', frame, 's', starts end
  return 'f', frame
end

-- Adds to the window; false, and the window is closed, behind an entry with the last of all ids, which
-- somebody wrote by hand: nothing can follow it. When all is settled the queue begins anew.
local function into_window(r, frame, lane, name)
  if type(redis.pcall('XADD', r.queue, '*', entry_of(r, frame, name))) == 'table' then
    if redis.call('XLEN', r.queue) > 0 then
      r.window = 0
      return false
    end
    redis.call('DEL', r.queue)
    redis.call('XGROUP', 'CREATE', r.queue, GROUP, '0', 'MKSTREAM')
    redis.call('XADD', r.queue, '*', entry_of(r, frame, name))
  end
  r.used = r.used + 1
  if r.ordered then redis.call('HSET', r.held, lane, name) end
  return true
end

-- A rate is the generic cell rate algorithm: `tat` is when the next delivery would enter at an even
-- pace, and a tenth of a second's worth (one at least) may enter ahead of it. So in any t seconds at
-- most rate * t + burst enter. As many as that may be ready, or a fleet that was away would start more.
-- A `tat` further ahead than a whole burst is another rate's, or another time's of the server's clock.
-- Source: ITU-T I.371, annex A; virtual scheduling.
local function burst_of(rate) return math.max(1, math.ceil(rate / 10)) end

local function open_rate(r)
  if not r.rate or r.ready then return end
  local pending = redis.pcall('XPENDING', r.queue, GROUP)
  r.ready, r.now = r.used - (pending.err and 0 or pending[1]), server_time()
  if r.rate > 0 then r.tat = math.min(r.tat, r.now + burst_of(r.rate) * 1000000 / r.rate) end
end

local function may_pass(r)
  if not r.rate then return true end
  local burst, interval = burst_of(r.rate), 1000000 / r.rate
  if r.rate <= 0 or r.ready >= burst then return false end
  if r.tat > r.now + (burst - 1) * interval then return false end
  r.tat, r.ready, r.passed = math.max(r.tat, r.now) + interval, r.ready + 1, true
  return true
end

-- What has passed and was never started has cost nothing: its place is given back.
local function give_back_places(r, count)
  if r.rate and r.rate > 0 and count > 0 then r.tat, r.passed = r.tat - count * 1000000 / r.rate, true end
end

-- Microseconds until the rate lets the next delivery in; nil where no rate holds anything back. Also when
-- nothing waits yet: what comes before then is announced by nobody. While enough are ready nobody knows
-- when they will be read: then it is worth a look now and then.
local LOOK_AGAIN = 50000
local function opens_in(r)
  if not r.rate or r.rate <= 0 or r.used >= r.window then return nil end
  local burst = burst_of(r.rate)
  local wait = r.tat - (burst - 1) * 1000000 / r.rate - r.now
  if wait <= 0 and r.waiting == 0 then return nil end
  return math.max(wait, r.ready >= burst and LOOK_AGAIN or 0)
end

-- How urgent a lane is that stands at this place of `lanes`.
local function urgency_of(place) return -math.floor(tonumber(place) / PRIORITY_STEP) end

-- Takes the next lanes off `lanes`, with their places: all equally urgent, because one that is more urgent and has
-- had its turn goes before those that are less.
local function next_lanes(r, count)
  local popped, lanes = redis.call('ZPOPMIN', r.lanes, count), {}
  local urgency = popped[1] and urgency_of(popped[2])
  for p = 1, #popped, 2 do
    if urgency_of(popped[p + 1]) == urgency then
      lanes[#lanes + 1] = { name = popped[p], place = popped[p + 1] }
    else
      redis.call('ZADD', r.lanes, popped[p + 1], popped[p])
    end
  end
  r.waiting = popped[1] and r.waiting - #lanes or 0
  return lanes, urgency
end

-- Gives lanes that are equally urgent the next turns, in their order.
local function take_turns(r, lanes, urgency)
  if #lanes == 0 then return end
  local turn, places = take_turn(r, #lanes) - #lanes, {}
  for n, lane in ipairs(lanes) do
    places[2 * n - 1], places[2 * n] = whole(turn + n - urgency * PRIORITY_STEP), lane
  end
  r.waiting = r.waiting + redis.call('ZADD', r.lanes, 'NX', unpack(places))
end

-- Takes up to `count` deliveries off the head of a lane. Lanes that are let in were not checked, and what was taken
-- off others must not be lost: a key that somebody overwrote is a lane without deliveries. Who publishes into it is
-- told (check_lane).
local function take_heads(list, count)
  local frames = redis.pcall('LPOP', list, count)
  return frames and not frames.err and frames or {}
end

-- Moves the head of a lane into the window. Returns how many bytes that were, nothing if it did not move, and
-- whether the lane may move on.
local function admit_head(r, lane)
  local list = lane_key(r, lane)
  local frame = take_heads(list, 1)[1]
  if not frame then return end
  local name = (r.ordered or r.has_suspects) and name_of(frame)
  local holder = r.ordered and redis.call('HGET', r.held, lane)
  if holder and holder ~= name then
    redis.call('LPUSH', list, frame)
  elseif into_window(r, frame, lane, name) then
    return string.len(frame), not r.ordered and redis.call('EXISTS', list) == 1
  else
    come_back(r, frame, lane)
  end
end

-- Takes up to `count` deliveries off the heads of each of these lanes, which are all that may move, and moves them
-- into the window: one of each, then the next of each, as if each lane had its turn for every single one. Returns how
-- many and how many bytes that were, and the lanes that may move on; what could not be moved is at its head again.
local function admit_rounds(r, lanes, count)
  local taken, again, moved, size = {}, {}, 0, 0
  for n, lane in ipairs(lanes) do
    local list = lane_key(r, lane.name)
    local is_left = size >= MAX_WRITTEN
    local frames = is_left and {} or take_heads(list, count)
    for _, frame in ipairs(frames) do size = size + string.len(frame) end
    taken[n] = { name = lane.name, frames = frames, next = 1 }
    r.listed[lane.name] = nil
    if is_left or (#frames == count and redis.call('EXISTS', list) == 1) then again[#again + 1] = lane.name end
  end
  for _ = 1, count do
    for _, lane in ipairs(taken) do
      local frame = lane.frames[lane.next]
      if frame and r.window > 0 and into_window(r, frame) then lane.next, moved = lane.next + 1, moved + 1 end
    end
  end
  for _, lane in ipairs(taken) do
    for n = #lane.frames, lane.next, -1 do come_back(r, lane.frames[n], lane.name) end
  end
  return moved, size, again
end

-- The one door. Moves heads of lanes, by urgency and turn, into the window while there is room.
-- Invariants: XLEN(queue) <= window; an ordered lane has at most one delivery in the window, and
-- `held` names it; moved deliveries of one lane keep their order; no more enter than the rate allows. A call
-- moves a bounded number and some 40 MB at most; `cut` says that it stopped there, and the next call goes on.
local LANES_AT_ONCE = 100
local function admit(r)
  local moved, size, is_open = 0, 0, true
  open_rate(r)
  while is_open and r.used < r.window and r.waiting > 0 and moved < ADMIT_LIMIT and size < MAX_WRITTEN do
    local lanes, urgency = next_lanes(r, math.min(math.ceil(r.window - r.used), LANES_AT_ONCE)) -- of 2.5, by hand
    local again, rounds = {}, 1
    if #lanes > 0 and r.waiting == 0 and not (r.ordered or r.rate or r.has_suspects) then
      rounds = math.min(math.floor((r.window - r.used) / #lanes), math.floor((ADMIT_LIMIT - moved) / #lanes),
                        ROUNDS_AT_ONCE)
    end
    if rounds > 1 then
      local count, bytes
      count, bytes, again = admit_rounds(r, lanes, rounds)
      moved, size, lanes = moved + count, size + bytes, {}
    end
    for _, lane in ipairs(lanes) do
      is_open = is_open and r.used < r.window and size < MAX_WRITTEN and may_pass(r)
      if is_open then
        r.listed[lane.name] = nil
        local bytes, goes_on = admit_head(r, lane.name)
        if bytes then moved, size = moved + 1, size + bytes end
        if goes_on then again[#again + 1] = lane.name end
      else
        r.waiting = r.waiting + redis.call('ZADD', r.lanes, lane.place, lane.name)
      end
    end
    take_turns(r, again, urgency)
  end
  r.cut = moved >= ADMIT_LIMIT or size >= MAX_WRITTEN
  if r.passed then redis.call('HSET', key('sub', r.name), 'tat', whole(r.tat)) end
end

-- The room and the rate that a record leaves once these of its fields are as given; nil is no limit.
local function limits_with(S, fields)
  local function field(name)
    local value = fields[name]
    if value == nil then value = redis.call('HGET', key('sub', S), name) end
    return value ~= 'code' and value
  end
  local is_closed = field('paused') == '1' or field('state') == 'dropping'
  return is_closed and 0 or limit_of(field('set_concurrency'), field('concurrency')),
         limit_of(field('set_rate'), field('rate'))
end

-- The group as Redis shows it: how many are leased, and the last entry that was read.
local function group_of(r)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', r.queue)) do
    local group = {}
    for f = 1, #info, 2 do group[info[f]] = info[f + 1] end
    if group.name == GROUP then return group.pending, group['last-delivered-id'] end
  end
  return r.used, '+'
end

-- What is ready and more than these limits would let in, read before the first write: the newest, at most
-- MOST_TAKEN_BACK or about 8 MB of them; and whether there is more. Whoever lowers a limit takes it back, so that
-- the limit holds at once; what a worker has leased, runs on. What is no delivery stays, for a worker to make a
-- dead letter of it; so does, in an ordered lane, what somebody wrote there by hand: it does not hold the lane,
-- and at its head would block it.
local MOST_TAKEN_BACK = 500
local function ready_beyond(r, room, rate)
  if r.used == 0 then return {}, false end
  local leased, last_read = group_of(r)
  local open = math.max(0, math.min((room or math.huge) - leased, rate and burst_of(rate) or math.huge))
  local too_much, taken, size, before = r.used - leased - open, {}, 0, '+'
  local function is_enough() return #taken >= math.min(too_much, MOST_TAKEN_BACK) or size >= MAX_MOVED end
  while before and not is_enough() do
    local page = redis.call('XREVRANGE', r.queue, before, '(' .. last_read, 'COUNT', READ_AT_ONCE)
    before = page[READ_AT_ONCE] and '(' .. page[READ_AT_ONCE][1]
    for _, ready in ipairs(page) do
      local frame = field_of(ready, 'f')
      local lane, name = waits_in(frame or ''), name_of(frame or '')
      local is_ours = name ~= '' and (not r.ordered or redis.call('HGET', r.held, lane) == name)
      if is_ours and not is_enough() then
        check_lane(r, lane)
        taken[#taken + 1], size = { entry = ready[1], frame = frame, lane = lane }, size + string.len(frame)
      end
    end
  end
  return taken, too_much > #taken and is_enough()
end

-- Ends a step that wrote limits: takes back what is too much, to the heads of its lanes, in order, at no cost
-- of places of the rate, and lets in what there is room for now.
local function take_back(r, too_many)
  for _, back in ipairs(too_many) do
    redis.call('XDEL', r.queue, back.entry)
    come_back(r, back.frame, back.lane)
  end
  give_back_places(r, #too_many)
  if r.passed then redis.call('HSET', key('sub', r.name), 'tat', whole(r.tat)) end
  records[r.name] = nil
  admit(record(r.name))
end

-- Offers a new delivery: straight into the window when there is room and nobody waits before it,
-- else to the end of its lane.
local function offer(r, frame, lane, name)
  local is_held = r.ordered and redis.call('HEXISTS', r.held, lane) == 1
  if r.waiting == 0 and r.used < r.window and not is_held and not r.rate and into_window(r, frame, lane, name) then return end
  if redis.call('RPUSH', lane_key(r, lane), frame) == 1 and not is_held then may_move(r, lane, frame) end
end

-- Gives up an ordered lane. Only the holder's own name does, so a second settle releases nothing.
local function let_go(r, lane, name)
  if r.ordered and redis.call('HGET', r.held, lane) == name then
    redis.call('HDEL', r.held, lane)
    local head = redis.call('LINDEX', lane_key(r, lane), 0)
    if head then may_move(r, lane, head) end
  end
end

local MAX_PASSED = 150000 -- entries of lists that one call walks past to insert others: some 100 ms
local passed, low_in = 0, {} -- so far; per list, from where on the next one belongs

-- Where in its ordered lane a delivery belongs: before everything that is later in history, behind a holder that
-- has come back. What waits is in that order, and of one lane the earliest comes first here: so the place is nearly
-- always the end, or next to where the one before went. Returns what is there; nil at the end.
local function place_in(list, holder, position)
  local function at(index)
    local frame = redis.call('LINDEX', list, index)
    passed = passed + string.len(frame or '') / 100 -- what reading it costs, in entries passed
    return frame
  end
  local function is_before(index) return (tonumber(string.match(at(index), '^%d+')) or 0) < position end
  local high = redis.call('LLEN', list)
  if not low_in[list] then low_in[list] = holder and high > 0 and name_of(at(0)) == holder and 1 or 0 end
  local low = low_in[list]
  if low >= high or is_before(-1) then return nil end
  if is_before(low) then
    low = low + 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if is_before(middle) then low = middle + 1 else high = middle end
    end
  end
  passed, low_in[list] = passed + low, low + 1
  return at(low)
end

local function come_back_in_order(r, frame, lane, position)
  local list, holder = lane_key(r, lane), redis.call('HGET', r.held, lane)
  local later = place_in(list, holder, position)
  if later then redis.call('LINSERT', list, 'BEFORE', later, frame) else redis.call('RPUSH', list, frame) end
  if not holder then may_move(r, lane, redis.call('LINDEX', list, 0)) end
end

-- Deliveries of a subscriber that wait, those ready, running and to be retried included; counted no further than a
-- bound, once it is reached. Who has written asks too, when it is too late for an error: what is behind a key of a
-- wrong type is not counted.
local function count_waiting(r, bound)
  local count, seen = r.used, {}
  local function count_in(length)
    if type(length) == 'number' then count = count + length end
  end
  count_in(redis.pcall('ZCARD', r.delayed))
  local function add(lane)
    if not seen[lane] then count_in(redis.pcall('LLEN', lane_key(r, lane))) end
    seen[lane] = true
  end
  for _, lane in ipairs(redis.call('ZRANGE', r.lanes, 0, bound - 1)) do
    if count < bound then add(lane) end
  end
  local held = r.ordered and redis.call('HSCAN', r.held, 0, 'COUNT', bound)[2] or {}
  for f = 1, #held, 2 do
    if count < bound then add(held[f]) end
  end
  return count
end

local delivered, written = 0, 0 -- deliveries and bytes of this call; at the maximum the rest is answered LATER

-- joins ---------------------------------------------------------------------------------------
-- A subscriber that joins gets an event only when nothing is under way any more of what that event set
-- off. Until then its delivery is parked in the join's hash, which counts the deliveries that are.
--
--   parked ──nobody is under way: complete, or dead ones among them──> a delivery like any other
--          ──timeout────────────────────────────────────────────────>
--
-- A scope is a join that is open, named `<subscriber>/<position>`. An event is in the scopes of its
-- cause, and in those that it opens itself; its deliveries count in all of these, and carry them in
-- their frames. The delivery of a join counts in the scopes of its event's cause, not in those that
-- its own event opened: joins of one event do not wait for each other.
-- Invariants: `open` is the number of deliveries in the scope that have not ended. What an attempt
-- returns is counted in the step that ends the attempt, so `open` is 0 only when nothing follows. The
-- delivery leaves the hash in one step, once. What joins until then is kept in the list, in order; where
-- something was missing, also what comes later, until the delivery is done or discarded. What is complete
-- stays as it is: every attempt sees the same.

local MAX_JOINED, MAX_JOINED_BYTES = 10000, 32000000
local UNREADABLE = 1000000000 -- deliveries that `open` counts where a hand has written no count: the time-out ends it
local MAX_SCOPES = 32 -- of one event: each costs every delivery in it a few commands, and every event a copy
local scopes = {} -- token -> what this call knows of it; false when there is no such join

local function scope(token)
  if scopes[token] == nil then
    local S, position = string.match(token, '^([^/]+)/(%d+)$')
    local part = S and (S .. ':' .. position)
    local v = S and redis.call('HMGET', key('join', part), 'open', 'dead', 'left', 'bytes', 'why', 'frame') or {}
    if v[1] then
      local s = { name = S, position = position, hash = key('join', part), list = key('joined', part),
                  open = counted(v[1]) or UNREADABLE, dead = counted(v[2]) or 0, left = counted(v[3]) or 0,
                  bytes = counted(v[4]) or 0, is_complete = v[5] == 'complete', frame = v[6] }
      s.kept = redis.call('LLEN', s.list)
      redis.call('ZCARD', key('joins', S))
      if s.frame then check_lane(record(S), waits_in(s.frame)) else record(S) end
      scopes[token] = s
    else
      scopes[token] = false
    end
  end
  return scopes[token]
end

-- The scopes of a frame or of a cause that are still there.
local function scopes_in(text)
  local found = {}
  for token in string.gmatch(text or '', '[^,]+') do
    if scope(token) then found[#found + 1] = token end
  end
  return found
end

local function open_scope(r, position, frame)
  local token, part = r.name .. '/' .. position, r.name .. ':' .. position
  local s = { name = r.name, position = position, hash = key('join', part), list = key('joined', part),
              frame = frame, open = 0, dead = 0, left = 0, bytes = 0, kept = 0, changed = true }
  redis.call('HSET', s.hash, 'frame', frame, 'open', 0)
  redis.call('ZADD', key('joins', r.name), whole(server_time() + r.join_timeout), position)
  scopes[token] = s
  return token
end

local function enter_scopes(tokens)
  for _, token in ipairs(tokens) do
    local s = scopes[token]
    s.open, s.changed = s.open + 1, true
  end
end

local function leave_scopes(text, is_dead)
  for _, token in ipairs(scopes_in(text)) do
    local s = scopes[token]
    s.open, s.dead, s.changed = math.max(0, s.open - 1), s.dead + (is_dead and 1 or 0), true
  end
end

-- Keeps an event that a scope waits for. What is too much for one handler is counted instead.
local function join_event(tokens, kind, header, body)
  for _, token in ipairs(tokens) do
    local s = scopes[token]
    local of = records[s.name] and records[s.name].join_of
    if of and not s.is_complete and string.find(of, '\t' .. kind .. '\t', 1, true) then
      local size = string.len(body)
      if s.kept < MAX_JOINED and s.bytes + size <= MAX_JOINED_BYTES then
        s.kept, s.bytes = redis.call('RPUSH', s.list, framed(header, body)), s.bytes + size
        delivered, written = delivered + 1, written + size
      else
        s.left = s.left + 1
      end
      s.changed = true
    end
  end
end

local function decide(s, why)
  redis.call('HDEL', s.hash, 'frame')
  redis.call('HSET', s.hash, 'why', why)
  redis.call('ZREM', key('joins', s.name), s.position)
  local frame, lane = s.frame, waits_in(s.frame)
  s.frame = false
  offer(record(s.name), frame, lane, name_of(frame))
end

-- Writes the counts, and lets go of the joins for which nothing is under way, in history order. Called once,
-- before the last `admit`.
local function keep_scopes()
  local over = {}
  for _, s in pairs(scopes) do
    if s and s.changed then
      redis.call('HSET', s.hash, 'open', s.open, 'dead', s.dead, 'left', s.left, 'bytes', s.bytes)
      if s.open == 0 and s.frame then over[#over + 1] = s end
    end
  end
  table.sort(over, function(a, b) return tonumber(a.position) < tonumber(b.position) end)
  for _, s in ipairs(over) do decide(s, s.dead + s.left > 0 and 'dead' or 'complete') end
end

-- The delivery of a join has ended for good: nobody asks for what was kept. One that was a dead letter may be
-- of a subscriber that was a join at the time, and is none any more.
local function forget_join(r, position, was_join)
  if not (r.join_of or was_join) then return end
  redis.call('DEL', key('join', r.name .. ':' .. position), key('joined', r.name .. ':' .. position))
  redis.call('ZREM', key('joins', r.name), position)
  scopes[r.name .. '/' .. position] = false
end

-- publishing ----------------------------------------------------------------------------------

local known, routes = {}, {}
local handled = {} -- events whose handlers settle in this call: id -> root and depth, as their frames say

local function remember(id)
  if known[id] == nil then
    local value = redis.call('GET', key('id', id))
    if value then
      local position, digest, root, depth, origin, within = -- whole patterns: optional parts would be tried in all ways
        string.match(value, '^(%d+)\t([^\t]*)\t([^\t]*)\t(%d+)\t([^\t]*)\t([^\t]*)$')
      if not position then position, digest = string.match(value, '^(%d+)\t([^\t]*)$') end
      known[id] = position and { -- what nobody can read is not known
        position = position, digest = digest, root = root and root ~= '' and root or id, depth = tonumber(depth) or 0,
        origin = origin and origin ~= '' and origin or 'publish', scopes = within or '',
      }
    else
      known[id] = false
    end
  end
  return known[id]
end

local function had_enough() return delivered >= MAX_DELIVERIES or written >= MAX_WRITTEN end

local function routes_of(kind)
  if not routes[kind] then
    routes[kind] = redis.call('SUNION', key('routes', kind), key('routes', '*'))
    table.sort(routes[kind])
  end
  return routes[kind]
end

local EVENT_FIELDS = 9

-- Reads one event from ARGV at i: id, digest, type, cause, correlation, project, order key, priority, body.
local function event_at(i, origin)
  return { id = ARGV[i], digest = ARGV[i + 1], type = ARGV[i + 2], cause = ARGV[i + 3], correlation = ARGV[i + 4],
           project = ARGV[i + 5], order_key = ARGV[i + 6], priority = ARGV[i + 7], body = ARGV[i + 8], origin = origin }
end

-- What a delivery does is known by its subscriber and redelivery, and by the id that is derived from these and the
-- event's: a Redis that went back may have given the event two positions, and both are handled.
local function work_of(origin) return string.match(origin, '^%d+(:.*)$') end

local function same_fact(old, e)
  if old.digest == e.digest then return true end
  if e.origin == 'publish' then return false end
  return old.origin == e.origin or (e.is_derived and work_of(old.origin) == work_of(e.origin))
end

-- What is scheduled waits in an envelope: a header, a newline, its body. The header's fields, separated by
-- tabs: origin, root, depth and scopes, all of when it was scheduled, then the arguments of event_at but for
-- the body. In these scopes it is under way, as a delivery is, until it is published or cancelled.
-- Invariant: what is scheduled is not in history, and its id stands for one content in both places.
local some_scheduled
local envelopes_read = 0 -- bytes: to know its header one reads all of it
local waiting = {} -- id -> what is scheduled: digest, origin, root, depth and scopes; false where nothing is

local HEADER = '^([^\t\n]*)\t([^\t\n]*)\t(%d+)\t([^\t\n]*)\t[^\t\n]*\t([^\t\n]*)\t'

local function scheduled(id)
  if some_scheduled == nil then some_scheduled = redis.call('ZCARD', key('scheduled')) > 0 end
  if waiting[id] == nil then
    local is_there = some_scheduled and redis.call('ZSCORE', key('scheduled'), id)
    local envelope = is_there and redis.call('HGET', key('envelopes'), id) or ''
    envelopes_read = envelopes_read + string.len(envelope)
    local origin, root, depth, within, digest = string.match(envelope, HEADER)
    waiting[id] = digest and { digest = digest, origin = origin, root = root, depth = tonumber(depth), scopes = within }
    if digest then scopes_in(within) else waiting[id] = false end
  end
  return waiting[id]
end

-- Root and depth. A cause may be in the same call, not written yet, or scheduled itself.
local function root_of(e, batch)
  local same_call = batch and batch[e.cause] or handled[e.cause]
  local cause = e.cause ~= '' and (remember(e.cause) or same_call or scheduled(e.cause))
  if cause then return e.correlation ~= '' and e.correlation or cause.root, cause.depth + 1 end
  if e.cause ~= '' then return e.correlation ~= '' and e.correlation or e.cause, 1 end
  return e.correlation ~= '' and e.correlation or e.id, 0
end

-- The scopes that an event is in because of its cause. A cause of the same call is known when it is written.
local NONE = {}
local function inherited(e)
  if e.cause == '' then return NONE end
  local cause = remember(e.cause) or handled[e.cause] or scheduled(e.cause)
  return cause and scopes_in(cause.scopes) or {}
end

local function unschedule(id, is_dead)
  local old = scheduled(id)
  if redis.call('ZREM', key('scheduled'), id) == 0 then return 0 end
  redis.call('HDEL', key('envelopes'), id)
  if old then leave_scopes(old.scopes, is_dead) end
  waiting[id] = false
  return 1
end

-- Reads all that publishing the event will touch. Returns nil, or why it is refused. `batch`
-- collects ids of the same call, so that two events of one call cannot take one id.
local function refusal(e, max_routes, batch)
  local later = scheduled(e.id)
  local old = remember(e.id) or batch[e.id]
  if old then
    if same_fact(old, e) then
      inherited(e) -- reads the joins that it may be in since
      return nil
    end
    return table.concat({ 'CONFLICT', e.id, old.position or '0' }, '\t')
  end
  if later and not same_fact(later, e) then return table.concat({ 'CONFLICT', e.id, 'scheduled' }, '\t') end
  local subscribers = routes_of(e.type)
  if #subscribers > max_routes then return table.concat({ 'ROUTES', e.type, #subscribers }, '\t') end
  e.root, e.depth = root_of(e, batch)
  e.width = batch[e.cause] and batch[e.cause].width or #inherited(e)
  for _, S in ipairs(subscribers) do
    local r = record(S)
    check_lane(r, lane_of(r, e, e.root))
    if r.join_of then
      redis.call('ZCARD', key('joins', S))
      e.width = e.width + 1
    end
  end
  if e.width > MAX_SCOPES then return table.concat({ 'JOINS', e.type, e.width, MAX_SCOPES }, '\t') end
  batch[e.id] = e
  return nil
end

-- The frame of an event's first delivery. `tokens` are the scopes in which it counts.
local function frame_of(r, e, position, root, depth, tokens, redelivery)
  return framed({ position, redelivery or '0', '0', whole(depth), e.type, rooted(root, e.id), lane_of(r, e, root),
                  e.priority, table.concat(tokens, ',') }, e.body)
end

-- What the last step of a back-fill needs to know of an event, since it cannot look into bodies.
local function filling_header(e)
  return table.concat({ e.id, e.type, e.project, e.order_key, e.priority }, '\t')
end

-- Remembers an event. For long: what is that of a root in no join is left out.
local function remember_as(e, position, root, depth, origin, within)
  local kept = { position, e.digest }
  if depth > 0 or root ~= e.id or origin ~= 'publish' or within ~= '' then
    kept[3], kept[4], kept[5], kept[6] = rooted(root, e.id), whole(depth), by_handler(origin), within
  end
  redis.call('SET', key('id', e.id), table.concat(kept, '\t'), 'KEEPTTL')
  known[e.id] = { position = position, root = root, depth = depth, digest = e.digest, origin = origin, scopes = within }
end

local function join_published(e, position, root, depth, tokens)
  local header = { position, '0', '0', whole(depth), e.type, rooted(root, e.id), '', e.priority, '' }
  join_event(tokens, e.type, header, e.body)
end

-- An event that is published again is in the joins of its cause, as ever: more than before only where Redis went
-- back, and what was put back had published it before its cause was done again. What follows it is not counted there.
local function join_again(e, old)
  local has, more = ',' .. old.scopes .. ',', {}
  for _, token in ipairs(inherited(e)) do
    if not string.find(has, ',' .. token .. ',', 1, true) then more[#more + 1] = token end
  end
  if not more[1] then return end
  join_published(e, old.position, old.root, old.depth, more)
  if old.scopes ~= '' then more[#more + 1] = old.scopes end
  remember_as(e, old.position, old.root, old.depth, old.origin, table.concat(more, ','))
end

-- Writes the event to history, its id, and one delivery per route. The first write is history's,
-- so that a full or read-only server refuses the event whole. Returns position, and 1 if it is new.
-- Who is being back-filled gets nothing: its filler will come by, and finds what it needs in the entry.
local function publish(e)
  local old = remember(e.id)
  if old then
    join_again(e, old)
    return old.position, 0
  end
  local root, depth = root_of(e)
  local subscribers, deliveries = routes_of(e.type), {}
  for _, S in ipairs(subscribers) do
    if record(S).state ~= 'backfill' then deliveries[#deliveries + 1] = S end
  end
  local fields = { 'e', e.body, 'r', rooted(root, e.id), 'd', whole(depth), 's', table.concat(deliveries, '\t'),
                   'o', by_handler(e.origin) }
  if #deliveries < #subscribers then
    fields[#fields + 1] = 'b'
    fields[#fields + 1] = filling_header(e)
  end
  local position = whole(append(key('history'), unpack(fields)))
  local from_cause, within = inherited(e), {}
  for n, token in ipairs(from_cause) do within[n] = token end
  for _, S in ipairs(deliveries) do
    local r = record(S)
    if r.join_of then
      within[#within + 1] = open_scope(r, position, frame_of(r, e, position, root, depth, from_cause))
      enter_scopes(from_cause)
    end
  end
  if from_cause[1] then join_published(e, position, root, depth, from_cause) end
  remember_as(e, position, root, depth, e.origin, table.concat(within, ','))
  for _, S in ipairs(deliveries) do
    local r = record(S)
    if not r.join_of then
      enter_scopes(within)
      offer(r, frame_of(r, e, position, root, depth, within), lane_of(r, e, root), position .. ':0')
    end
  end
  if some_scheduled then unschedule(e.id) end
  delivered = delivered + #deliveries
  written = written + (1 + #deliveries) * string.len(e.body)
  return position, 1
end

-- What an event needs that is given to one subscriber apart from publishing: its lane, and the joins that it is in;
-- those of its cause, when Redis has forgotten it.
local function placed(r, e, position, root, depth)
  e.position, e.root, e.depth = position, root, depth
  e.lane = lane_of(r, e, root)
  check_lane(r, e.lane)
  local own = remember(e.id)
  e.within = own and scopes_in(own.scopes) or inherited(e)
  return e
end

-- Gives a subscriber an event of long ago, under this redelivery's name. Order goes before patience: in an ordered
-- lane it waits before all that is later in history, behind whoever holds the lane; else behind what waits already.
local function hand_over(r, e, redelivery)
  local frame = frame_of(r, e, e.position, e.root, e.depth, e.within, redelivery)
  if r.ordered then
    come_back_in_order(r, frame, e.lane, tonumber(e.position))
  else
    offer(r, frame, e.lane, e.position .. ':' .. redelivery)
  end
  delivered, written = delivered + 1, written + string.len(e.body)
end

-- subscriptions -------------------------------------------------------------------------------

local function has_group(queue)
  if redis.call('EXISTS', queue) == 0 then return false end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', queue)) do
    for f = 1, #info, 2 do
      if info[f] == 'name' and info[f + 1] == GROUP then return true end
    end
  end
  return false
end

-- Declares a subscriber: its routes, record and group in one step, so that no event of its types
-- is published without reaching it. `options` are pairs. Types once declared stay until undeclared. A back-fill
-- cannot begin at a moment that has not come: what is published from now on would be passed over until then.
local function declare(S, types, options)
  local begins
  for o = 1, #options, 2 do
    if options[o] == 'cursor' then
      read_clock()
      begins = math.min(tonumber(options[o + 1]) or 0, clock)
      options[o + 1] = whole(begins)
    end
  end
  for _, kind in ipairs(types) do redis.call('SADD', key('routes', kind), S) end
  redis.call('SADD', key('subscribers'), S)
  local all, seen = {}, {}
  local before = redis.call('HGET', key('sub', S), 'types') or ''
  for kind in string.gmatch(before .. '\t' .. table.concat(types, '\t'), '[^\t]+') do
    if not seen[kind] then all[#all + 1] = kind end
    seen[kind] = true
  end
  table.sort(all)
  redis.call('HSET', key('sub', S), 'types', table.concat(all, '\t'), unpack(options))
  redis.call('HSETNX', key('sub', S), 'state', 'live')
  if begins == clock and clock then keep_clock() end
  local made = redis.pcall('XGROUP', 'CREATE', key('queue', S), GROUP, '0', 'MKSTREAM')
  if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then error(made) end
end

-- outcomes ------------------------------------------------------------------------------------

-- More fields follow in pairs: what the store's copy of a dead letter needs.
local function outcome(position, S, redelivery, attempt, state, worker, elapsed, reason, ...)
  append(key('outcomes'), 'o',
         table.concat({ position, S, redelivery, attempt, state, worker, elapsed, reason }, '\t'), ...)
end
