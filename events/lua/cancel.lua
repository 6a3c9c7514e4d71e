-- Takes scheduled events back before they are published.
--
-- ARGV: epoch, then ids.
-- Reply: 'EPOCH', or per id 1 if it was scheduled and now is not, 0 if it was not: unknown, or published.

if epoch_differs() then return 'EPOCH' end
redis.call('ZCARD', key('scheduled'))
redis.call('HLEN', key('envelopes'))
local replies = {}
for i = 2, #ARGV do scheduled(ARGV[i]) end
for i = 2, #ARGV do replies[#replies + 1] = unschedule(ARGV[i]) end
keep_scopes()
for _, r in pairs(records) do admit(r) end
return replies
