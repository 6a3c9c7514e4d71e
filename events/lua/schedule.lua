-- Schedules events to be published later; one that is due already is published at once.
--
-- ARGV: epoch, max_routes, origin, then per event when it is due, `+<microseconds>` from now or
--       `<microseconds>` since 1970, both by this server's clock, and the event (see event_at).
-- Reply: 'EPOCH', or per event `scheduled\t<due>\t<1 new | 0 known>`, or what `publish` replies:
-- a position when it is in history, a refusal, `LATER`.
--
-- Invariant: an event is in `scheduled` exactly when its envelope is in `envelopes`, and is in history
-- or there, not in both. Scheduled twice it keeps the earlier of its due times: a repetition whose first
-- reply was lost counts its delay from a later moment. It is checked like a published one, so that what
-- is wrong with it is said now; root, depth and scopes are those of this moment.

if epoch_differs() then return 'EPOCH' end
local max_routes, origin, now = tonumber(ARGV[2]), ARGV[3], server_time()
read_clock()
check_stream(key('history'))
redis.call('HLEN', key('envelopes'))

local function sealed(e, at)
  local header = { origin, e.root, whole(e.depth), e.scopes }
  for i = at, at + EVENT_FIELDS - 2 do header[#header + 1] = ARGV[i] end
  return framed(header, e.body)
end

local events, replies, batch, published = {}, {}, {}, false
for i = 4, #ARGV, EVENT_FIELDS + 1 do
  local e = event_at(i + 1, origin)
  e.due, e.at = tonumber(ARGV[i]), i + 1
  if string.sub(ARGV[i], 1, 1) == '+' then e.due = now + e.due end
  local reason = refusal(e, max_routes, batch)
  events[#events + 1] = reason or e
end

-- The first write of an event is of its envelope, or of history: a full server refuses it whole.
local function schedule(e)
  local before = redis.call('ZSCORE', key('scheduled'), e.id)
  if before and tonumber(before) <= e.due then return 'scheduled\t' .. whole(tonumber(before)) .. '\t0' end
  if not before then
    local within = inherited(e)
    e.scopes = table.concat(within, ',')
    redis.call('HSET', key('envelopes'), e.id, sealed(e, e.at))
    enter_scopes(within)
    waiting[e.id] = { digest = e.digest, origin = origin, root = e.root, depth = e.depth, scopes = e.scopes }
    written = written + string.len(e.body)
  end
  redis.call('ZADD', key('scheduled'), whole(e.due), e.id)
  some_scheduled = true
  return 'scheduled\t' .. whole(e.due) .. (before and '\t0' or '\t1')
end

for n, e in ipairs(events) do
  if type(e) == 'string' then
    replies[n] = e
  elseif had_enough() then
    replies[n] = 'LATER'
  elseif remember(e.id) or e.due <= now then
    local position, new = publish(e)
    replies[n], published = position .. '\t' .. new, published or new == 1
  else
    replies[n] = schedule(e)
  end
end
if published then keep_clock() end
keep_scopes()
for _, r in pairs(records) do admit(r) end
return replies
