-- Renews leases without counting them, and says which the caller has lost.
--
-- ARGV: epoch, consumer, then per lease: subscriber, entry id, delivery count.
-- Reply: 'EPOCH', or the 1-based numbers of the leases that are not the caller's any more.
--
-- Never a bare XCLAIM: it would take back what another worker has claimed since.

if epoch_differs() then return 'EPOCH' end
local consumer, lost = ARGV[2], {}
for i = 3, #ARGV, 3 do
  local queue, entry = key('queue', ARGV[i]), ARGV[i + 1]
  local lease = lease_on(queue, entry)
  if lease and lease[2] == consumer and whole(lease[4]) == ARGV[i + 2] then -- fence
    redis.call('XCLAIM', queue, GROUP, consumer, 0, entry, 'IDLE', 0, 'JUSTID')
  else
    lost[#lost + 1] = i / 3
  end
end
return lost
