-- Takes over deliveries whose worker has been silent for a lease, counts the attempt and records
-- it as lost. What it returns is the caller's lease from now on.
--
-- ARGV: epoch, consumer, lease in milliseconds, most to take over, most of those that were started
--       before by somebody who had taken them over and fell silent too, 1 to remove idle consumers,
--       number of subscribers, their names, then pairs (subscriber, entry id) that the caller's own
--       process holds and has not renewed lately, which it must not take from itself.
-- Reply: 'EPOCH', or per delivery: subscriber, entry id, delivery count, starts before, frame.
--
-- After a gap in reaping of more than half a lease nothing is taken for one lease: during an
-- outage nobody could renew, so silence proves nothing.

if epoch_differs() then return 'EPOCH' end
local consumer, lease_ms, limit, alone = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local sweep, n = ARGV[6], tonumber(ARGV[7])
local now = server_time()
local held, taken, size = {}, {}, 0
for i = 8 + n, #ARGV, 2 do held[ARGV[i] .. '\t' .. ARGV[i + 1]] = true end
read_clock()
check_stream(key('outcomes'))
redis.call('ZCARD', key('workers'))
local found = { gone = {}, everybody = {} }
if sweep == '1' then
  found.gone = redis.call('ZRANGEBYSCORE', key('workers'), '-inf', whole(now - 10000 * lease_ms), 'LIMIT', 0, 100)
  redis.call('HLEN', key('beats'))
  if found.gone[1] then found.everybody = redis.call('SMEMBERS', key('subscribers')) end
  for _, S in ipairs(found.everybody) do redis.call('HLEN', key('running', S)) end
end

-- One that was dropped, while its workers go on, comes not back by their reaping.
local names = {}
for i = 8, 7 + n do
  if redis.call('HEXISTS', key('sub', ARGV[i]), 'types') == 1 then names[#names + 1] = ARGV[i] end
end

for s, S in ipairs(names) do
  local queue = key('queue', S)
  local v = redis.call('HMGET', key('sub', S), 'reaped_at', 'reap_from')
  local reaped_at, reap_from = finite(v[1]) or 0, finite(v[2]) or 0
  if now - reaped_at > lease_ms * 500 then reap_from = now + lease_ms * 1000 end
  -- The server's clock was set back: wait one lease by the new time, not until the old one returns.
  if reaped_at > now or reap_from > now + lease_ms * 1000 then reap_from = now + lease_ms * 1000 end
  local silent = {}
  if now >= reap_from and limit > 0 then
    silent = redis.call('XPENDING', queue, GROUP, 'IDLE', lease_ms, '-', '+', limit + 100)
  end
  local queued = {}
  for i, lease in ipairs(silent) do
    if size >= MAX_MOVED then break end -- the rest is taken over by the next call
    local entry = redis.call('XRANGE', queue, lease[1], lease[1])[1]
    local frame = entry and field_of(entry, 'f') or ''
    size = size + string.len(frame)
    queued[i] = { frame = frame, starts = finite(redis.call('HGET', key('suspects', S), name_of(frame))) or 0 }
  end
  redis.call('XLEN', queue)
  local consumers = sweep == '1' and redis.call('XINFO', 'CONSUMERS', queue, GROUP)
  found[s] = { reap_from = reap_from, silent = silent, queued = queued, consumers = consumers }
end

for s, S in ipairs(names) do
  local queue = key('queue', S)
  although_full(queue)
  redis.call('HSET', key('sub', S), 'reaped_at', whole(now), 'reap_from', whole(found[s].reap_from))
  for i, lease in ipairs(found[s].silent) do
    local entry, owner, count = lease[1], lease[2], lease[4]
    local queued = found[s].queued[i]
    local frame, starts = queued and queued.frame, queued and queued.starts
    local room = queued and #taken < limit and (starts == 0 or alone > 0)
    if room and not (owner == consumer and held[S .. '\t' .. entry]) then
      if redis.call('XCLAIM', queue, GROUP, consumer, lease_ms, entry)[1] then
        if starts > 0 then alone = alone - 1 end
        local position, redelivery, attempts = string.match(frame, '^(%d+)\t(%d+)\t(%d+)\t')
        outcome(position or '0', S, redelivery or '0', whole((tonumber(attempts) or 0) + count), 'lost', owner, '0',
                'the worker was silent for longer than its lease')
        taken[#taken + 1] = { S, entry, whole(count + 1), whole(starts), frame }
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
for _, gone in ipairs(found.gone) do
  redis.call('ZREM', key('workers'), gone)
  redis.call('HDEL', key('beats'), gone)
  -- Of every subscriber: whoever tends it has nobody to ask for once the worker is not in `workers`.
  for _, S in ipairs(found.everybody) do redis.call('HDEL', key('running', S), gone) end
end
if #taken > 0 then keep_clock() end
return taken
