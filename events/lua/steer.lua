-- Steers a subscriber: pauses it, lets it go on, or sets a limit that goes before the one in code.
--
-- ARGV: epoch, subscriber, then pairs of a field and its value: paused 0 | 1; set_concurrency and
--       set_rate, a number, the empty text for no limit, or `code` to follow the code again.
-- Reply: 'EPOCH', 'UNKNOWN' (nobody declared the subscriber; nothing is written), or how many
--        deliveries were taken back out of the window and, 1 or 0, whether more of them are to be: call again.
--
-- Invariant: afterwards no more is ready than the new limits would let in (see ready_beyond); the window of a
-- paused subscriber is 0. Workers hand back what they hold unstarted of a paused subscriber when they tend the
-- queue (promote tells them). It runs on a full server: to let a paused backlog go on is how one gets out of that.

if epoch_differs() then return 'EPOCH' end
local S = ARGV[2]
local r = record(S)
if not r.declared then return 'UNKNOWN' end
local changes = {}
for i = 3, #ARGV, 2 do changes[ARGV[i]] = ARGV[i + 1] end
local too_many, is_more = ready_beyond(r, limits_with(S, changes))

although_full(r.queue)
for field, value in pairs(changes) do
  if value == 'code' then
    redis.call('HDEL', key('sub', S), field)
  else
    redis.call('HSET', key('sub', S), field, value)
  end
end
take_back(r, too_many)
return { #too_many, is_more and 1 or 0 }
