-- Removes routes of a subscriber. Deliveries that wait for it stay, and are still handled.
--
-- ARGV: epoch, subscriber, then types; none means all of its types.
-- Reply: 'EPOCH', or the types that were removed.

if epoch_differs() then return 'EPOCH' end
local S, removed, rest, gone = ARGV[2], {}, {}, {}
local types = redis.call('HGET', key('sub', S), 'types') or ''
for i = 3, #ARGV do gone[ARGV[i]] = true end
for kind in string.gmatch(types, '[^\t]+') do
  if #ARGV == 2 or gone[kind] then removed[#removed + 1] = kind else rest[#rest + 1] = kind end
end
for _, kind in ipairs(removed) do redis.call('SCARD', key('routes', kind)) end

for _, kind in ipairs(removed) do redis.call('SREM', key('routes', kind), S) end
if #removed > 0 then redis.call('HSET', key('sub', S), 'types', table.concat(rest, '\t')) end
return removed
