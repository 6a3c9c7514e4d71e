-- Declares a subscriber: routes, record and group, in one step.
--
-- ARGV: epoch, subscriber, max_routes, ordering, number of types, types, number of option parts, option
--       pairs, then pairs for a record that is new: what an operator has set, where a back-fill begins.
-- Reply: 'EPOCH', 'OK', `ROUTES type count` (a type has too many subscribers), `ORDERING current`
-- (the ordering cannot change while deliveries wait: they were put into lanes by the old one), or `JOIN`
-- (nobody becomes a join, or stops being one, while deliveries wait or it is back-filled: those of a join
-- have what it has seen), or 'MORE': declared, and of what is ready beyond its limits there is more to take back
-- than one call does: call again.
--
-- Invariant: afterwards no more is ready than its limits would let in (see ready_beyond), as after steer.
-- A record that is there keeps its state and what operators have set. One that is being dropped lives
-- again: some code wants it.

if epoch_differs() then return 'EPOCH' end
local S, max_routes, ordering, n = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local r = record(S)
local types, counted, options = {}, {}, { 'ordering', ordering }
for t = 1, n do
  types[t] = ARGV[5 + t]
  counted[types[t]] = true
end
-- A subscriber of every type counts against the limit of each type that anybody has named.
local everybody = redis.call('SMEMBERS', key('subscribers'))
for _, other in ipairs(counted['*'] and everybody or {}) do
  for kind in string.gmatch(redis.call('HGET', key('sub', other), 'types') or '', '[^\t]+') do counted[kind] = true end
end
for kind in pairs(counted) do
  local count, mine = #routes_of(kind), false
  for _, name in ipairs(routes_of(kind)) do mine = mine or name == S end
  if not mine and count >= max_routes then return 'ROUTES ' .. kind .. ' ' .. (count + 1) end
end
local first, becomes_join = 7 + n, false
local last = r.declared and first + tonumber(ARGV[6 + n]) - 1 or #ARGV
for o = first, last do
  options[#options + 1] = ARGV[o]
  if ARGV[o] == 'join_of' then becomes_join = (ARGV[o + 1] or '') ~= '' end
end
if r.state == 'dropping' then
  options[#options + 1] = 'state'
  options[#options + 1] = 'live'
end
local busy = r.used + r.waiting + redis.call('ZCARD', r.delayed) + redis.call('HLEN', r.held) > 0
if r.declared and busy and r.ordering ~= ordering then
  return 'ORDERING ' .. (r.ordering ~= '' and r.ordering or 'none')
end
local parks = redis.call('ZCARD', key('joins', S)) > 0 or r.state == 'backfill'
if r.declared and (busy or parks) and (r.join_of ~= nil) ~= becomes_join then return 'JOIN' end

-- Nothing is written when nothing differs, so that workers boot on a server that is full. A field that an earlier
-- release did not know is absent, which says the same as an empty one.
local same = r.declared and redis.call('SISMEMBER', key('subscribers'), S) == 1 and has_group(r.queue)
for _, kind in ipairs(types) do same = same and redis.call('SISMEMBER', key('routes', kind), S) == 1 end
for o = 1, #options, 2 do same = same and (redis.call('HGET', key('sub', S), options[o]) or '') == options[o + 1] end
local fields = {}
for o = 1, #options, 2 do fields[options[o]] = options[o + 1] end
local too_many, is_more = ready_beyond(r, limits_with(S, fields))

if not same then declare(S, types, options) end
if #too_many > 0 then although_full(r.queue) end
if not same or #too_many > 0 then take_back(r, too_many) end
return is_more and 'MORE' or 'OK'
