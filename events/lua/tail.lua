-- Reads history after a position together with how far SQL has it, in one step.
--
-- ARGV: epoch (not compared: reading an empty namespace is allowed), position, most entries.
-- Reply: archived, entries.

local after = whole(tonumber(ARGV[2]) + 1)
return { redis.call('GET', key('archived')) or '0', redis.call('XRANGE', key('history'), after, '+', 'COUNT', ARGV[3]) }
