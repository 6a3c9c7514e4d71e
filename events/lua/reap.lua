-- Takes over deliveries whose worker has been silent for a lease, counts the attempt and records
-- it as lost. What it returns is the caller's lease from now on.
--
-- ARGV: epoch, consumer, lease in milliseconds, most to take over, 1 to remove idle consumers too,
--       number of subscribers, their names, then pairs (subscriber, entry id) that the caller's own
--       process holds and has not renewed lately, which it must not take from itself.
-- Reply: 'EPOCH', or per delivery: subscriber, entry id, delivery count, frame.
--
-- After a gap in reaping of more than half a lease nothing is taken for one lease: during an
-- outage nobody could renew, so silence proves nothing.

if epoch_differs() then return 'EPOCH' end
local consumer, lease_ms, limit, sweep, n = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local now = server_time()
local held, taken = {}, {}
for i = 7 + n, #ARGV, 2 do held[ARGV[i] .. '\t' .. ARGV[i + 1]] = true end
read_clock()
check_stream(key('outcomes'))
redis.call('ZCARD', key('workers'))
local found = {}

for s = 7, 6 + n do
  local S = ARGV[s]
  local queue = key('queue', S)
  local v = redis.call('HMGET', key('sub', S), 'reaped_at', 'reap_from')
  local reaped_at, reap_from = tonumber(v[1]) or 0, tonumber(v[2]) or 0
  if now - reaped_at > lease_ms * 500 then reap_from = now + lease_ms * 1000 end
  local silent = {}
  if now >= reap_from then silent = redis.call('XPENDING', queue, GROUP, 'IDLE', lease_ms, '-', '+', limit + 100) end
  redis.call('XLEN', queue)
  local consumers = sweep == '1' and redis.call('XINFO', 'CONSUMERS', queue, GROUP)
  found[s] = { reap_from = reap_from, silent = silent, consumers = consumers }
end

for s = 7, 6 + n do
  local S = ARGV[s]
  local queue = key('queue', S)
  although_full(queue)
  redis.call('HSET', key('sub', S), 'reaped_at', whole(now), 'reap_from', whole(found[s].reap_from))
  for _, lease in ipairs(found[s].silent) do
    local entry, owner, count = lease[1], lease[2], lease[4]
    if #taken < limit and not (owner == consumer and held[S .. '\t' .. entry]) then
      local claimed = redis.call('XCLAIM', queue, GROUP, consumer, lease_ms, entry)[1]
      if claimed then
        local frame = ''
        for f = 1, #claimed[2], 2 do
          if claimed[2][f] == 'f' then frame = claimed[2][f + 1] end
        end
        local position, redelivery, attempts = string.match(frame, '^(%d+)\t(%d+)\t(%d+)\t')
        outcome(position or '0', S, redelivery or '0', whole((tonumber(attempts) or 0) + count), 'lost', owner, '0',
                'the worker was silent for longer than its lease')
        taken[#taken + 1] = { S, entry, whole(count + 1), frame }
      end
    end
  end
  if sweep == '1' then
    for _, info in ipairs(found[s].consumers) do
      local seen = {}
      for f = 1, #info, 2 do seen[info[f]] = info[f + 1] end
      if seen.pending == 0 and seen.idle > 10 * lease_ms and seen.name ~= consumer then
        redis.call('XGROUP', 'DELCONSUMER', queue, GROUP, seen.name)
      end
    end
  end
end
if sweep == '1' then redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', whole(now - 10000 * lease_ms)) end
if #taken > 0 then keep_clock() end
return taken
