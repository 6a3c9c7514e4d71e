-- Back-fills a new subscriber: gives it events that were published before it was live, in history order.
--
--   backfill(cursor) ──events after the cursor──> backfill(later cursor)
--                    ──and nothing follows──────> live: from now on publish delivers
--
-- ARGV: epoch, subscriber, the cursor and the types (tab-separated) from which the caller read, the position
--       up to which it has looked, 1 when nothing followed there, how far to count what waits, then 12
--       fields per event after the cursor, ascending: position, root, depth, and those of event_at.
-- Reply: 'EPOCH', or a verdict and what holds now: cursor, types, and deliveries that wait, counted so far.
--   FILLED   the events are delivered and the cursor has moved: go on from there
--   LIVE     likewise, and the back-fill has ended
--   STALE    nothing was written: another filler was here, or the types have changed, or the caller had
--            no cursor and only asks
--   DONE     nothing was written: the subscriber is not being back-filled
--   UNKNOWN  nothing was written: nobody has declared it
--
-- A retry that waits for its time waits too: so however many handlers fail, Redis holds no more than the
-- caller allows. What is delivered is named by the record's `first_redelivery`, so that an earlier subscriber
-- of this name, dropped since, has given no delivery the same name.
--
-- Invariants: each event is delivered once, because the cursor is compared and moved in the same step; in
-- order, because only what follows the cursor is offered; without a gap against publishers, because `live`
-- is set in a step that has read history to its end. What is published while the caller reads need not be
-- read again by it: such entries say in field `b` what their frames need, so that a back-fill ends however
-- busy the publishers are. The first write grows memory: a full server refuses all of it.

if epoch_differs() then return 'EPOCH' end
local S, cursor, types = ARGV[2], ARGV[3], ARGV[4]
local upto, is_end, bound = tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])
local MOST, MAX_BYTES = 1000, 8000000
local r = record(S)

local function answer(verdict, at) return { verdict, at, r.types, count_waiting(r, bound) } end

if not r.declared then return answer('UNKNOWN', r.cursor) end
if r.state ~= 'backfill' then return answer('DONE', r.cursor) end
if cursor ~= r.cursor or types ~= r.types then return answer('STALE', r.cursor) end -- compare

local found = {}
local function found_one(e, position, root, depth) found[#found + 1] = placed(r, e, position, root, depth) end

for i = 8, #ARGV, EVENT_FIELDS + 3 do
  found_one(event_at(i + 3, ''), ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]))
end

-- Whether Redis has all of history after the position: SQL may have taken over, and Redis trimmed, what was
-- published since the caller read.
local function has_all_after(position)
  if (finite(redis.call('GET', key('archived'))) or 0) <= position then return true end
  local first = redis.call('XRANGE', key('history'), '-', '+', 'COUNT', 1)[1]
  return first and tonumber(string.match(first[1], '^%d+')) <= position
end

-- Takes what follows in history from its entries. Returns whether that was the end. It reads few at first, and
-- as many as fit if all are like the largest so far.
local function read_on()
  local seen, bytes, largest = 0, 0, MAX_BYTES / 4
  while seen < MOST and bytes < MAX_BYTES do
    local chunk = math.max(1, math.min(50, math.floor((MAX_BYTES - bytes) / largest)))
    if seen == 0 then largest = 1 end
    local entries = redis.call('XRANGE', key('history'), whole(upto + 1), '+', 'COUNT', chunk)
    for _, entry in ipairs(entries) do
      local position = tonumber(string.match(entry[1], '^%d+'))
      if position >= MAX_POSITION then return true end -- written by hand; only its like can follow
      local body, root, depth = field_of(entry, 'e'), field_of(entry, 'r'), tonumber(field_of(entry, 'd') or '')
      local id, kind, project, order_key, priority =
        string.match(field_of(entry, 'b') or '', '^([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)$')
      local size = string.len(body or '')
      bytes, largest = bytes + size, math.max(largest, size)
      if id and body and root and depth and takes(r, kind) then
        local e = { id = id, type = kind, cause = '', project = project, order_key = order_key, priority = priority,
                    body = body }
        found_one(e, whole(position), root ~= '' and root or id, depth)
      end
      upto, seen = position, seen + 1
    end
    if #entries < chunk then return true end
  end
  return false
end

local is_live = is_end and has_all_after(upto) and read_on()
redis.call('HSET', key('sub', S), 'cursor', whole(upto))
if is_live then
  redis.call('HSET', key('sub', S), 'state', 'live')
  redis.call('HDEL', key('sub', S), 'cursor')
end
for _, e in ipairs(found) do
  enter_scopes(e.within)
  local frame = frame_of(r, e, e.position, e.root, e.depth, e.within, r.first_redelivery)
  offer(r, frame, e.lane, e.position .. ':' .. r.first_redelivery)
end
keep_scopes()
admit(r)
return answer(is_live and 'LIVE' or 'FILLED', whole(upto))
