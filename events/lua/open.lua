-- Opens the namespace: returns its epoch, or begins a new one.
--
-- ARGV: epoch to begin with ('' only looks), floor (a position), then per subscriber to declare in
--       the same step: name, number of types, types, number of option fields, fields.
-- Reply: the epoch, or '' when there is none and the caller may not begin one.
--
-- Nobody publishes between the birth of an epoch and its routes: they are one step, so all that it writes is read
-- before, and a key of a wrong type begins no epoch. The clock never starts below the store's highest position.

local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch then return epoch end
if ARGV[1] == '' then return '' end
read_clock()
clock = math.max(clock, tonumber(ARGV[2]))
redis.call('SCARD', key('subscribers'))
local declared, i = {}, 3
while i <= #ARGV do
  local S, types, options = ARGV[i], {}, {}
  local n = tonumber(ARGV[i + 1])
  for t = 1, n do types[t] = ARGV[i + 1 + t] end
  i = i + 2 + n
  n = tonumber(ARGV[i])
  for o = 1, n do options[o] = ARGV[i + o] end
  i = i + 1 + n
  for _, kind in ipairs(types) do redis.call('SCARD', key('routes', kind)) end
  redis.call('HLEN', key('sub', S))
  redis.call('XLEN', key('queue', S))
  declared[#declared + 1] = { S = S, types = types, options = options }
end

redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'format', '1')
keep_clock()
for _, one in ipairs(declared) do declare(one.S, one.types, one.options) end
return ARGV[1]
