-- Publishes a batch of events, each atomically with its deliveries; all or none of one event.
--
-- ARGV: epoch, max_routes, origin, then 9 per event (see event_at).
-- Reply: 'EPOCH', or per event `<position>\t<1 new | 0 known>` or a refusal: `CONFLICT id position`
-- (the id says something else), `ROUTES type count` (too many subscribers), `JOINS type count limit` (in too
-- many joins at once), or `LATER`: the call has done enough for one step, send this one again.
-- A refused event writes nothing and does not keep its neighbours from being published.

if epoch_differs() then return 'EPOCH' end
local max_routes, origin = tonumber(ARGV[2]), ARGV[3]
read_clock()
check_stream(key('history'))

local events, replies, batch = {}, {}, {}
for i = 4, #ARGV, EVENT_FIELDS do
  local e = event_at(i, origin)
  local reason = refusal(e, max_routes, batch)
  events[#events + 1] = reason or e
end

for n, e in ipairs(events) do
  if type(e) == 'string' then
    replies[n] = e
  elseif had_enough() then
    replies[n] = 'LATER'
  else
    local position, new = publish(e)
    replies[n] = position .. '\t' .. new
  end
end
keep_clock()
keep_scopes()
for _, r in pairs(records) do admit(r) end
return replies
