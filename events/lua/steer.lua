-- Steers a subscriber: pauses it, lets it go on, or sets a limit that goes before the one in code.
--
-- ARGV: epoch, subscriber, then pairs of a field and its value: paused 0 | 1; set_concurrency and
--       set_rate, a number, the empty text for no limit, or `code` to follow the code again.
-- Reply: 'EPOCH', 'UNKNOWN' (nobody declared the subscriber; nothing is written), or how many
--        deliveries were taken back out of the window and, 1 or 0, whether more of them are to be: call again.
--
-- Invariant: afterwards no more is ready than the new limits would let in; the window of a paused
-- subscriber is 0. What is too much goes back to the heads of its lanes, in order, and has cost no place
-- of the rate; what a worker has leased, runs on. Workers hand back what they hold unstarted of a paused
-- subscriber when they tend the queue (promote tells them).

if epoch_differs() then return 'EPOCH' end
local S, MOST = ARGV[2], 500
local r = record(S)
if not r.declared then return 'UNKNOWN' end
local changes = {}
for i = 3, #ARGV, 2 do changes[ARGV[i]] = ARGV[i + 1] end

local function limit_after(field, declared)
  local set = changes[field] or redis.call('HGET', key('sub', S), field)
  return limit_of(set ~= 'code' and set, redis.call('HGET', key('sub', S), declared))
end

-- The group as Redis shows it: how many are leased, and the last entry that was read.
local function group_of(queue)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', queue)) do
    local group = {}
    for f = 1, #info, 2 do group[info[f]] = info[f + 1] end
    if group.name == GROUP then return group.pending, group['last-delivered-id'] end
  end
  return r.used, '+'
end

local function too_many(leased)
  local rate = limit_after('set_rate', 'rate')
  local room = limit_after('set_concurrency', 'concurrency') or math.huge
  if (changes.paused or (r.paused and '1')) == '1' then room = 0 end
  return r.used - leased - math.max(0, math.min(room - leased, rate and burst_of(rate) or math.huge))
end

-- The newest ones. What is no delivery stays, for a worker to make a dead letter of it; so does, in an
-- ordered lane, what somebody wrote there by hand: it does not hold the lane, and at its head would block it.
local leased, last_read = group_of(r.queue)
local too_much, taken, before = too_many(leased), {}, '+'
while #taken < math.min(too_much, MOST) and before do
  local page = redis.call('XREVRANGE', r.queue, before, '(' .. last_read, 'COUNT', 200)
  before = page[200] and '(' .. page[200][1]
  for _, ready in ipairs(page) do
    local frame
    for f = 1, #ready[2], 2 do
      if ready[2][f] == 'f' then frame = ready[2][f + 1] end
    end
    local lane, name = waits_in(frame or ''), name_of(frame or '')
    local is_ours = name ~= '' and (not r.ordered or redis.call('HGET', r.held, lane) == name)
    if #taken < math.min(too_much, MOST) and is_ours then
      check_lane(r, lane)
      taken[#taken + 1] = { entry = ready[1], frame = frame, lane = lane }
    end
  end
end

for field, value in pairs(changes) do
  if value == 'code' then redis.call('HDEL', key('sub', S), field) else redis.call('HSET', key('sub', S), field, value) end
end
for _, back in ipairs(taken) do
  redis.call('XDEL', r.queue, back.entry)
  come_back(r, back.frame, back.lane)
end
give_back_places(r, #taken)
if r.passed then redis.call('HSET', key('sub', S), 'tat', whole(r.tat)) end
records[S] = nil
admit(record(S))
return { #taken, #taken == MOST and too_much > MOST and 1 or 0 }
