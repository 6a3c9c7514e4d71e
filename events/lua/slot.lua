-- Fires a slot of a cron schedule: publishes its events and moves the cursor past it, in one step.
--
-- ARGV: epoch, max_routes, schedule, cursor as the caller read it, slot, origin, cron, timezone, then its events
--       (see event_at); there may be none.
-- Reply: 'EPOCH'; `FIRED`; `MOVED`, somebody else has settled slots since the caller read the cursor, or
--        another cron or timezone holds;
--        `EARLY`, by this server's clock the slot is still to come; or why an event is refused. Nothing is
--        written but for FIRED.
--
-- Invariant: slots of a schedule are fired in their order, each once: only who read the cursor as it is
-- moves it, and only forward. The cursor moves when all the slot's events are written, or none is.

if epoch_differs() then return 'EPOCH' end
local max_routes, name, before, slot, origin = tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local slots = key('slots', name)
local held = redis.call('HMGET', slots, 'cursor', 'cron', 'timezone')
if held[1] ~= before or slot <= tonumber(before) then return 'MOVED' end
if held[2] ~= ARGV[7] or held[3] ~= ARGV[8] then return 'MOVED' end
if slot > server_time() then return 'EARLY' end
read_clock()
check_stream(key('history'))
local events, batch, routed = {}, {}, 0
for i = 9, #ARGV, EVENT_FIELDS do
  local e = event_at(i, origin)
  local reason = refusal(e, max_routes, batch)
  if reason then return reason end
  routed = routed + #routes_of(e.type)
  events[#events + 1] = e
end
if routed > MAX_RETURNED then return table.concat({ 'DELIVERIES', routed, MAX_RETURNED }, '\t') end

for _, e in ipairs(events) do publish(e) end
redis.call('HSET', slots, 'cursor', whole(slot), 'last', whole(slot), 'seen', whole(server_time()))
if #events > 0 then keep_clock() end
keep_scopes()
for _, r in pairs(records) do admit(r) end
return 'FIRED'
