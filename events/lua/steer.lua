-- Steers a subscriber: pauses it, lets it go on, or sets a limit that goes before the one in code.
--
-- ARGV: epoch, subscriber, then pairs of a field and its value: paused 0 | 1; set_concurrency and
--       set_rate, a number, the empty text for no limit, or `code` to follow the code again.
-- Reply: 'EPOCH', 'UNKNOWN' (nobody declared the subscriber; nothing is written), or how many
--        deliveries were taken back out of the window and, 1 or 0, whether more of them are there.
--
-- A paused subscriber's window is 0: what no worker has leased goes back to the heads of its lanes, in
-- order, so nothing more is started; what runs, runs on. Workers hand back what they hold unstarted
-- when they tend the queue (promote tells them).

if epoch_differs() then return 'EPOCH' end
local S, MOST = ARGV[2], 500
if redis.call('EXISTS', key('sub', S)) == 0 then return 'UNKNOWN' end
local r = record(S)
local changes = {}
for i = 3, #ARGV, 2 do changes[ARGV[i]] = ARGV[i + 1] end
local will_pause = changes.paused == '1' or (changes.paused == nil and r.paused)

local ready, more = {}, 0
if will_pause then
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', r.queue)) do
    local group = {}
    for f = 1, #info, 2 do group[info[f]] = info[f + 1] end
    if group.name == GROUP then
      ready = redis.call('XREVRANGE', r.queue, '+', '(' .. group['last-delivered-id'], 'COUNT', MOST + 1)
    end
  end
  if #ready > MOST then more = 1 end
end
local taken = {}
for n = 1, math.min(#ready, MOST) do
  local fields, frame = ready[n][2], nil
  for f = 1, #fields, 2 do
    if fields[f] == 'f' then frame = fields[f + 1] end
  end
  -- What is no delivery stays, for a worker to make a dead letter of it; so does, in an ordered lane, what
  -- somebody wrote there by hand: it does not hold the lane, and at its head would block it.
  local lane, name = waits_in(frame or ''), name_of(frame or '')
  if name ~= '' and (not r.ordered or redis.call('HGET', r.held, lane) == name) then
    check_lane(r, lane)
    taken[#taken + 1] = { entry = ready[n][1], frame = frame, lane = lane }
  end
end

for field, value in pairs(changes) do
  if value == 'code' then redis.call('HDEL', key('sub', S), field) else redis.call('HSET', key('sub', S), field, value) end
end
for _, back in ipairs(taken) do
  redis.call('XDEL', r.queue, back.entry)
  come_back(r, back.frame, back.lane)
end
records[S] = nil
admit(record(S))
return { #taken, more }
