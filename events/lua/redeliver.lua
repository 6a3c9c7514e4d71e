-- Hands events to one subscriber again, a page at a time: a redelivery that an operator asked for.
--
--   none ──begin──> under way (cursor) ──page: events after it, cursor compared and moved──> under way (later cursor)
--                                      ──page, and it has looked to the end──────────────> none
--                                      ──give up─────────────────────────────────────────> none
--   any ──once: one event, whole, in this step──> as it was
--
-- ARGV: epoch, subscriber, how far to count what waits, then what:
--   look
--   begin, number, cursor, question     the redelivery in the names of what it delivers; opaque text that says what
--                                       was asked. Its end is the last position given: what comes later is not in it
--   page, number, cursor from which the caller has read, position up to which it has looked, who, why (one line
--                                       each), then 12 fields per event after the cursor, ascending: position,
--                                       root, depth, and those of event_at
--   give up, number
--   once, number, who, why, then the 12 fields of one event     it is handed over however many wait, and is no part of
--                                       what is under way: nothing of it can be interrupted
-- Reply: 'EPOCH', or a verdict; number, cursor, end, deliveries made so far, question; types (tab-separated), and how
--        many deliveries wait. Number is '' where none is under way.
--   NONE     there is none; nothing was written by `page` and `give up`
--   BEGUN    `begin` has begun it            GOING    it is under way; `page` has delivered, and moved the cursor
--   STALE    (page) nothing was written: somebody else has moved the cursor, or began another one
--   ENDED    with this page; the reply tells what it was, for the last time
--   GIVEN    (give up) likewise
--   ONCE     (once) the number and the deliveries made, 0 or 1, are of this one alone
--   UNKNOWN  nobody declares the subscriber, or it is being dropped    FILLING  it is being back-filled, so it gets
--   JOIN     it joins: the state of a join belongs to the delivery that waits                 all of history anyway
--
-- Invariants: of one subscriber one redelivery at most is under way. Each event is delivered once in it, since the
-- cursor is compared and moved in the same step; in an ordered lane at its place in history among what waits. The
-- number is no other delivery's of these events (see store/registry.py), so nothing of an earlier delivery settles
-- a new one. The outcome `redelivered`, in the same step, tells the store that the delivery is there, who wanted it,
-- and why. A page that is too much for one step ends early, with the cursor where it ended. The first write grows
-- memory: a full server refuses all of it.

if epoch_differs() then return 'EPOCH' end
local S, bound, what = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local UNDER_WAY = '^(%d+)\t(%d+)\t(%d+)\t(%d+)\t(.*)$'
local r = record(S)
local number, cursor, upto, made, question = string.match(redis.call('HGET', key('sub', S), 'again') or '', UNDER_WAY)

local function answer(verdict)
  return { verdict, number or '', cursor or '0', upto or '0', made or '0', question or '', r.types, count_waiting(r, bound) }
end

local function keep()
  redis.call('HSET', key('sub', S), 'again', table.concat({ number, cursor, upto, made, question }, '\t'))
end

if not r.declared or r.state == 'dropping' then return answer('UNKNOWN') end
if r.join_of then return answer('JOIN') end
if r.state == 'backfill' then return answer('FILLING') end

-- The event at i in ARGV; nil where the subscriber does not take it.
local function taken(i)
  local e = event_at(i + 3, '')
  if takes(r, e.type) then return placed(r, e, ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])) end
end

local function deliver(e, number, who, why)
  outcome(e.position, S, number, '0', 'redelivered', who, '0', why)
  enter_scopes(e.within)
  hand_over(r, e, number)
end

if what == 'once' then
  read_clock()
  check_stream(key('outcomes'))
  local e = taken(8)
  if e then
    deliver(e, ARGV[5], ARGV[6], ARGV[7])
    keep_clock()
    keep_scopes()
    admit(r)
  end
  number, cursor, upto, made, question = ARGV[5], ARGV[8], ARGV[8], e and '1' or '0', nil
  return answer('ONCE')
end
if what == 'begin' and not number then
  number, cursor, made, question = ARGV[5], ARGV[6], '0', ARGV[7]
  upto = whole(finite(redis.call('GET', key('clock'))) or 0)
  keep()
  return answer('BEGUN')
end
if not number then return answer('NONE') end
if what == 'begin' or what == 'look' then return answer('GOING') end
if ARGV[5] ~= number then return answer('STALE') end
if what == 'give up' then
  redis.call('HDEL', key('sub', S), 'again')
  return answer('GIVEN')
end
if ARGV[6] ~= cursor then return answer('STALE') end -- compare

local looked, who, why = math.min(tonumber(ARGV[7]), tonumber(upto)), ARGV[8], ARGV[9]
read_clock()
check_stream(key('outcomes'))
local found = {}
for i = 10, #ARGV, EVENT_FIELDS + 3 do
  if tonumber(ARGV[i]) <= looked then found[#found + 1] = taken(i) end
end

for _, e in ipairs(found) do
  if had_enough() or passed >= MAX_PASSED then
    looked = tonumber(e.position) - 1
    break
  end
  deliver(e, number, who, why)
  made = whole(tonumber(made) + 1)
end
cursor = whole(looked)
local is_end = looked >= tonumber(upto)
if is_end then redis.call('HDEL', key('sub', S), 'again') else keep() end
keep_clock()
keep_scopes()
admit(r)
return answer(is_end and 'ENDED' or 'GOING')
