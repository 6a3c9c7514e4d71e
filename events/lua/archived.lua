-- Notes that SQL has everything up to a position, lets the events' ids expire, and trims.
--
-- ARGV: epoch, stream (history | outcomes), position, trim position, expiry of ids in milliseconds,
--       event ids up to the position.
-- Reply: 'EPOCH', '0' when the position was never given here (nothing is written), or the position
-- archived.
--
-- An id lives longer where a join still waits for what its event causes: it says which.
--
-- Invariant: nothing is trimmed that SQL does not have. `archived` only goes forward, and is set
-- in the same step, so that a reader who sees a trimmed history also sees why. The trim is the first
-- write: a full server allows it, and it is how one gets out of that.

if epoch_differs() then return 'EPOCH' end
local stream, position = ARGV[2], tonumber(ARGV[3])
-- Redis went back between the commit and this call: what it gives now, SQL does not have.
local last = redis.call('XREVRANGE', key(stream), '+', '-', 'COUNT', 1)[1]
local newest = last and tonumber(string.match(last[1], '^%d+')) or 0
local given = math.max(tonumber(redis.call('GET', key('clock')) or '0'), newest)
if given < position then return '0' end
local trim = math.min(tonumber(ARGV[4]), position + 1)
if stream == 'outcomes' then
  redis.call('XTRIM', key('outcomes'), 'MINID', whole(trim))
  return ARGV[3]
end
local LONGEST = 1000000000000 -- milliseconds, 31 years: a time-out that somebody wrote by hand may be no expiry
local expiry, now, due_at = tonumber(ARGV[5]), server_time(), {} -- token of a join -> when it goes anyway; 0: it went

local function expires_in(id)
  local value, longest = redis.pcall('GET', key('id', id)), expiry
  local within = type(value) == 'string' and string.match(value, '^%d+\t[^\t]*\t[^\t]*\t%d+\t[^\t]*\t([^\t]*)$')
  for token in string.gmatch(within or '', '[^,]+') do
    if not due_at[token] then
      local S, opened = string.match(token, '^([^/]+)/(%d+)$')
      local due = S and redis.pcall('ZSCORE', key('joins', S), opened)
      due_at[token] = type(due) == 'string' and tonumber(due) or 0
    end
    longest = math.max(longest, expiry + (due_at[token] - now) / 1000)
  end
  return whole(math.min(longest, LONGEST))
end

local expires = {}
for i = 6, #ARGV do expires[i] = expires_in(ARGV[i]) end
local archived = math.max(position, finite(redis.call('GET', key('archived'))) or 0)
redis.call('XTRIM', key('history'), 'MINID', whole(trim))
redis.call('SET', key('archived'), whole(archived))
for i = 6, #ARGV do redis.call('PEXPIRE', key('id', ARGV[i]), expires[i]) end
return whole(archived)
