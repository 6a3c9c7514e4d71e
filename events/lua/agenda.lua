-- Shows scheduled events in the order of their due times, without their bodies.
--
-- ARGV: an epoch that is ignored, a due time and the id after which to begin (0 and the empty text: at the
--       beginning), most to show.
-- Reply: per event its due time, id, and the header of its envelope; fewer when they are large, one at least
--        unless none follows.
--
-- The next page begins after the last id's rank; if that one has left meanwhile, at its due time: then some
-- come again, but none is left out that stays.

local rank = redis.call('ZRANK', key('scheduled'), ARGV[3])
local first = rank and rank + 1 or redis.call('ZCOUNT', key('scheduled'), '-inf', '(' .. ARGV[2])
local found = redis.call('ZRANGE', key('scheduled'), first, first + tonumber(ARGV[4]) - 1, 'WITHSCORES')
local page, size = {}, 0
for n = 1, #found, 2 do
  size = size + redis.call('HSTRLEN', key('envelopes'), found[n])
  if n > 1 and size > MAX_WRITTEN then break end
  local header = string.match(redis.call('HGET', key('envelopes'), found[n]) or '', '^[^\n]*')
  page[#page + 1] = { whole(tonumber(found[n + 1])), found[n], header }
end
return page
