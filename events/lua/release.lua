-- Publishes scheduled events that are due, in the order of their due times.
--
-- ARGV: epoch, max_routes, most events to look at, microseconds by which to put off what cannot be
--       published now.
-- Reply: 'EPOCH', or how many were published; microseconds until the next is due (-1: none is scheduled);
--        and pairs of an id and why it was not published: a `CONFLICT ...` or `UNREADABLE` is dropped;
--        `ROUTES ...`, `JOINS ...` (subscribers were declared since) or `FAILED text` (a key of one of its
--        subscribers is of a wrong type) is put off.
--
-- Invariant: each is written to history, its queues and its id, and leaves `scheduled` and `envelopes`, in
-- this one step; all else stays where it is. History is written first, so that a full server refuses
-- the whole call. What is known to history already is only removed.

if epoch_differs() then return 'EPOCH' end
local max_routes, most, put_off = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now, published, refused = server_time(), 0, {}

-- Reads an envelope as if its event were an argument. What was known of its cause when it was scheduled
-- serves where its id is forgotten.
local function opened(id)
  local header, body = string.match(redis.call('HGET', key('envelopes'), id) or '', '^([^\n]*)\n(.*)$')
  local fields = {}
  for field in string.gmatch((header or '') .. '\t', '([^\t]*)\t') do fields[#fields + 1] = field end
  local depth = tonumber(fields[3])
  if #fields ~= EVENT_FIELDS + 3 or not depth or fields[5] ~= id then return nil end
  local at = #ARGV + 1
  for n = 5, #fields do ARGV[#ARGV + 1] = fields[n] end
  ARGV[#ARGV + 1] = body
  local e = event_at(at, fields[1])
  e.cause_was = { root = fields[2], depth = depth - 1, scopes = fields[4] }
  return e
end

-- Runs what only reads. An error in it is of this event's own queues or joins, and must not hold up the others.
local function reading(read, ...)
  local well, found = pcall(read, ...)
  if well then return found end
  return 'FAILED\t' .. (type(found) == 'table' and found.err or tostring(found))
end

local function unreadable(id)
  scheduled(id) -- the joins that it leaves
  return 'UNREADABLE'
end

local due = redis.call('ZRANGEBYSCORE', key('scheduled'), '-inf', whole(now), 'LIMIT', 0, most)
local events, batch, size = {}, {}, 0
if #due > 0 then
  read_clock()
  check_stream(key('history'))
  redis.call('HLEN', key('envelopes'))
end
for n, id in ipairs(due) do
  if size >= MAX_WRITTEN then break end
  local e = opened(id)
  if e then
    size = size + string.len(e.body)
    if e.cause ~= '' then handled[e.cause] = e.cause_was end
    events[n] = reading(refusal, e, max_routes, batch) or e
  else
    events[n] = reading(unreadable, id)
  end
end

for n, e in ipairs(events) do
  if type(e) == 'table' and not remember(e.id) and not had_enough() then
    if e.cause ~= '' then handled[e.cause] = e.cause_was end
    publish(e)
    published = published + 1
  end
end
local function may_go_later(reason)
  return string.find(reason, '^ROUTES') or string.find(reason, '^JOINS') or string.find(reason, '^FAILED')
end

for n, e in ipairs(events) do
  if type(e) == 'string' then
    refused[#refused + 1] = due[n]
    refused[#refused + 1] = e
  end
  if type(e) == 'string' and may_go_later(e) then
    redis.call('ZADD', key('scheduled'), whole(now + put_off), due[n])
  elseif type(e) == 'string' or remember(e.id) then
    unschedule(due[n], type(e) == 'string')
  end
end
if published > 0 then keep_clock() end
keep_scopes()
for _, r in pairs(records) do admit(r) end

local next_due = redis.call('ZRANGE', key('scheduled'), 0, 0, 'WITHSCORES')[2]
return { published, next_due and math.max(0, math.floor(tonumber(next_due) - now)) or -1, refused }
