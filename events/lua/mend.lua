-- Puts back what Redis has lost of one subscriber: deliveries that the store knows to be waiting and that are
-- nowhere, under their own names; ordered lanes that nobody holds any more; lanes that nobody would look into.
--
-- ARGV: epoch, subscriber, `mends` of its record as it was before the caller looked for what is missing, how far to
--       count what waits, number of holds, pairs of a lane and the delivery that holds it and is nowhere, number of
--       lanes, lanes that have a head and are not listed, then 13 fields per delivery, ascending by position:
--       redelivery, then position, root, depth, and those of event_at; as its cause that of which Redis knows.
-- Reply: 'EPOCH', or a verdict; `mends` as it is now, deliveries put back, and how many wait.
--   MENDED   what fits into one step was done: of the deliveries that many, from the first on; send the rest again
--   STALE    nothing was written: somebody else has mended since, so what the caller found missing may be there
--   UNKNOWN  nobody declares the subscriber, or it is being dropped
--
-- Invariants: of two who look for the same at once one puts it back, since `mends` is compared and counted up in
-- the same step. A delivery keeps its name, so one that has an outcome is known by it; its attempts begin anew. What
-- holds its ordered lane goes to the head of it; what does not, to its place in history. A delivery is in the joins
-- of its event. Where Redis has the event at this place, they count its first delivery already, which has not ended; a
-- Redis that went back, and has the event at another place or not at all, or has forgotten that it was delivered
-- again, counts it from now on: in the joins of that place, or in those of the nearest cause that it knows. So no join
-- goes before what was put back has ended, and what that returns is joined. A hold is let go under the name that the caller found. The first write grows memory: a full
-- server refuses all of it.

if epoch_differs() then return 'EPOCH' end
local S, mends, bound = ARGV[2], ARGV[3], tonumber(ARGV[4])
local r = record(S)

local function answer(verdict, count) return { verdict, mends, count or 0, count_waiting(r, bound) } end

if not r.declared or r.state == 'dropping' then return answer('UNKNOWN') end
local now = redis.call('HGET', key('sub', S), 'mends') or '0'
if now ~= mends then -- compare
  mends = now
  return answer('STALE')
end

-- Joins of one event do not wait for each other: a join's delivery is in none that its own event opened.
local function leave_out(tokens, position)
  for n = #tokens, 1, -1 do
    if string.match(tokens[n], '/(%d+)$') == position then table.remove(tokens, n) end
  end
end

local i, holds, lanes, lost = 6, {}, {}, {}
for _ = 1, tonumber(ARGV[5]) do
  check_lane(r, ARGV[i])
  holds[#holds + 1] = { lane = ARGV[i], name = ARGV[i + 1] }
  i = i + 2
end
for n = 1, tonumber(ARGV[i]) do
  lanes[n] = ARGV[i + n]
  check_lane(r, lanes[n])
end
i = i + 1 + #lanes
for at = i, #ARGV, EVENT_FIELDS + 4 do
  local e = placed(r, event_at(at + 4, ''), ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]))
  e.redelivery = ARGV[at]
  local there = remember(e.id)
  local is_first = e.redelivery == '0' or e.redelivery == r.first_redelivery
  e.is_counted = there and there.position == e.position and is_first
  if r.join_of and there then leave_out(e.within, there.position) end
  lost[#lost + 1] = e
end

mends = whole(redis.call('HINCRBY', key('sub', S), 'mends', 1))
local put_back = 0
for _, e in ipairs(lost) do
  if had_enough() or passed >= MAX_PASSED then break end
  if not e.is_counted then enter_scopes(e.within) end
  if r.ordered and redis.call('HGET', r.held, e.lane) == e.position .. ':' .. e.redelivery then
    come_back(r, frame_of(r, e, e.position, e.root, e.depth, e.within, e.redelivery), e.lane)
  else
    hand_over(r, e, e.redelivery)
  end
  put_back = put_back + 1
end
for _, hold in ipairs(holds) do let_go(r, hold.lane, hold.name) end
for _, lane in ipairs(lanes) do
  local head = redis.call('LINDEX', lane_key(r, lane), 0)
  local holder = r.ordered and redis.call('HGET', r.held, lane)
  if head and (not holder or holder == name_of(head)) then may_move(r, lane, head) end
end
keep_scopes()
admit(r)
return answer('MENDED', put_back)
