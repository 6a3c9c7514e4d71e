-- Decides about dead letters: brings deliveries back, or gives them up for good. Each in one step.
--
-- ARGV: epoch, decision (redelivered | discarded | purged), who decides, why (one line), then per letter:
--   subscriber, letter             the id of its entry in dead:<S>
--   event id, project, order key   of its event, by which today's ordering tells its lane; empty texts when its
--                                  body cannot be read: then it goes back into the lane it was in
-- Reply: 'EPOCH', or per letter
--   `settled\t<redelivery>`  done; the redelivery that it now has or had
--   `gone`                   it is not there: somebody has decided, or an earlier send whose reply was lost
--   `unreadable`             (redelivered) it never was a delivery; nothing is written
--   `undeclared`             (redelivered) nobody declares its subscriber any more, or it is being dropped; nothing
--                            is written
--   `LATER`                  nothing is written: the call has done enough for one step, send this one again
--
-- Invariants: a letter is decided once: it is there exactly as long as nobody has, and the outcome that says
-- what became of it is written in the step that removes it. What comes back has a name of its own, so
-- nothing of the old delivery can settle it, its attempts begin anew, and it passes the one door. If the
-- letter holds its ordered lane, the new name takes over the hold or the lane is let go, in this step;
-- if another holds the lane, it waits. In the joins that wait for it it is under way again.
-- It goes on when memory is full: a letter that is gone, or handled, frees some. The letter is removed
-- last: should an append fail, which only a stream tampered with does, nothing is lost.

if epoch_differs() then return 'EPOCH' end
local decision, who, why = ARGV[2], ARGV[3], ARGV[4]
local LETTER_FIELDS = 5
-- A frame: position, redelivery, attempts, then depth to root, lane, priority to the end.
local FRAME = '^(%d+)\t(%d+)\t%d+\t(%d+\t[^\t\n]*\t([^\t\n]*)\t)([^\t\n]*)(\t(-?%d+)\t([^\t\n]*)\n.*)$'
read_clock()
check_stream(key('outcomes'))

local items, replies, taken, size = {}, {}, {}, 0

local function frame_in(entry)
  for n = 1, #entry[2], 2 do
    size = size + string.len(entry[2][n + 1])
    if entry[2][n] == 'f' then return entry[2][n + 1] end
  end
  return ''
end

-- Reads all that deciding about the letter will touch. Returns nil, or why it cannot be decided.
local function obstacle(item)
  if size >= MAX_MOVED then return 'LATER' end
  local S = item.S
  local entry = redis.call('XRANGE', key('dead', S), item.letter, item.letter)[1]
  if not entry or taken[S .. '\t' .. item.letter] then return 'gone' end
  item.position, item.redelivery, item.head, item.root, item.lane, item.rest, item.priority, item.scopes =
    string.match(frame_in(entry), FRAME)
  item.is_delivery = item.position and tonumber(item.position) > 0
  if decision == 'redelivered' and not item.is_delivery then return 'unreadable' end
  local goes = not record(S).declared or record(S).state == 'dropping'
  if decision == 'redelivered' and goes then return 'undeclared' end
  local r = record(S)
  taken[S .. '\t' .. item.letter] = true
  if not item.is_delivery then return nil end
  item.name = item.position .. ':' .. item.redelivery
  item.holds = r.ordered and redis.call('HGET', r.held, item.lane) == item.name
  if not item.holds and item.id ~= '' and decision == 'redelivered' then
    item.lane = lane_of(r, { id = item.id, project = item.project, order_key = item.order_key,
                             priority = item.priority }, item.root ~= '' and item.root or item.id)
  end
  check_lane(r, item.lane)
  scopes_in(item.scopes)
  redis.call('ZCARD', key('joins', S))
  return nil
end

for i = 5, #ARGV, LETTER_FIELDS do
  local item = { S = ARGV[i], letter = ARGV[i + 1], id = ARGV[i + 2], project = ARGV[i + 3], order_key = ARGV[i + 4] }
  items[#items + 1] = item
  replies[#items] = obstacle(item) or 'settled'
end

local function redeliver(r, item)
  local redelivery = whole(tonumber(item.redelivery) + 1)
  local frame = table.concat({ item.position, redelivery, '0', item.head .. item.lane .. item.rest }, '\t')
  if item.holds then redis.call('HSET', r.held, item.lane, item.position .. ':' .. redelivery) end
  if item.holds or not r.ordered then
    come_back(r, frame, item.lane)
  else
    come_back_in_order(r, frame, item.lane, tonumber(item.position))
  end
  for _, token in ipairs(scopes_in(item.scopes)) do
    local s = scopes[token]
    s.open, s.dead, s.changed = s.open + 1, math.max(0, s.dead - 1), true
  end
  return redelivery
end

-- From the last to the first: each goes to the head of its lane, and the first one comes first. After them those
-- that go between what waits in an ordered lane, the earliest in history first.
local order, between, decided = {}, {}, false
for n = #items, 1, -1 do
  local is_between = decision == 'redelivered' and replies[n] == 'settled' and not items[n].holds
                     and record(items[n].S).ordered
  local among = is_between and between or order
  among[#among + 1] = n
end
table.sort(between, function(a, b) return tonumber(items[a].position) < tonumber(items[b].position) end)
for _, n in ipairs(between) do order[#order + 1] = n end

for _, n in ipairs(order) do
  local item = items[n]
  if replies[n] == 'settled' and passed >= MAX_PASSED then
    replies[n] = 'LATER'
  elseif replies[n] == 'settled' then
    local r = record(item.S)
    local redelivery = item.is_delivery and item.redelivery or '0'
    although_full(r.queue)
    if decision == 'redelivered' then
      redelivery = redeliver(r, item)
    elseif item.is_delivery then
      let_go(r, item.lane, item.name)
      forget_join(r, item.position, true)
    end
    outcome(item.is_delivery and item.position or '0', item.S, redelivery, '0', decision, who, '0', why,
            'd', string.match(item.letter, '^%d+'))
    redis.call('XDEL', r.dead, item.letter)
    replies[n], decided = 'settled\t' .. redelivery, true
  end
end
if decided then keep_clock() end
keep_scopes()
for _, r in pairs(records) do admit(r) end
return replies
