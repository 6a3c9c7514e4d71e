-- Takes scheduled events back before they are published.
--
-- ARGV: epoch, then ids.
-- Reply: 'EPOCH', or per id 1 if it was scheduled and now is not, 0 if it was not: unknown, or published. Fewer
--        answers than ids: the call has read enough, some 8 MB of envelopes; send the rest again.

if epoch_differs() then return 'EPOCH' end
redis.call('ZCARD', key('scheduled'))
redis.call('HLEN', key('envelopes'))
local replies, last = {}, 1
while last < #ARGV and envelopes_read < MAX_MOVED do
  last = last + 1
  scheduled(ARGV[last])
end
for i = 2, last do replies[#replies + 1] = unschedule(ARGV[i]) end
keep_scopes()
for _, r in pairs(records) do admit(r) end
return replies
