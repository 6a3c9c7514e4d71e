-- Brings due retries back to the head of their lanes and lets lanes move; notes that the caller lives.
--
-- ARGV: epoch, consumer, most retries to bring back, then the subscribers' names.
-- Reply: 'EPOCH', or the number of retries brought back.

if epoch_differs() then return 'EPOCH' end
local consumer, budget, promoted = ARGV[2], tonumber(ARGV[3]), 0
local now = server_time()
redis.call('ZCARD', key('workers'))
local found = {}
for i = 4, #ARGV do
  local r = record(ARGV[i])
  local due = redis.call('ZRANGEBYSCORE', r.delayed, '-inf', whole(now), 'LIMIT', 0, budget)
  budget = budget - #due
  local lanes = {}
  for n, frame in ipairs(due) do
    lanes[n] = string.match(frame, '^%d+\t%d+\t%d+\t%d*\t[^\t]*\t[^\t]*\t([^\n]*)\n') or ''
    check_lane(r, lanes[n])
  end
  found[i] = { r = r, due = due, lanes = lanes }
end
for i = 4, #ARGV do
  local r, due, lanes = found[i].r, found[i].due, found[i].lanes
  although_full(r.queue)
  for n = #due, 1, -1 do
    redis.call('ZREM', r.delayed, due[n])
    come_back(r, due[n], lanes[n])
  end
  promoted = promoted + #due
  admit(r)
end
redis.call('ZADD', key('workers'), whole(now), consumer)
return promoted
