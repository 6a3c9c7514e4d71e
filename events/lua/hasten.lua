-- Brings forward, by so many microseconds, all that waits for its time: retries, scheduled events, time-outs of joins,
-- rates. For them it is as if so much time had passed; the clock, positions and everything else stay. It walks over
-- all of them at once: for tests, where few wait.
--
-- ARGV: epoch, microseconds.
-- Reply: 'EPOCH', or how many due times were brought forward.
--
-- Invariant: all keep their order and their distances. Nothing is published or handed out here: what is due after
-- this is brought by promote and release, as ever. The first write grows nothing, so a full server lets it pass.

if epoch_differs() then return 'EPOCH' end
local by, sets, rated, moved = tonumber(ARGV[2]), { key('scheduled') }, {}, 0
for _, S in ipairs(redis.call('SMEMBERS', key('subscribers'))) do
  local r = record(S)
  sets[#sets + 1] = r.delayed
  sets[#sets + 1] = key('joins', S)
  if r.rate and r.rate > 0 and r.tat > 0 then rated[#rated + 1] = r end
end
local members = {}
for n, zset in ipairs(sets) do members[n] = redis.call('ZRANGE', zset, 0, -1) end

for n, zset in ipairs(sets) do
  for _, member in ipairs(members[n]) do
    redis.call('ZINCRBY', zset, whole(-by), member)
    moved = moved + 1
  end
end
for _, r in ipairs(rated) do
  redis.call('HSET', key('sub', r.name), 'tat', whole(math.max(0, r.tat - by)))
  moved = moved + 1
end
return moved
