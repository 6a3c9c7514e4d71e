-- Reads which deliveries are in one place of a subscriber, by name: their bodies stay where they are.
--
-- ARGV: epoch (not compared: it only reads), subscriber, place (queue | dead | letters | lane | delayed | joins), the
--       lane or the empty text, where to go on (the empty text at first), most to look at.
-- Reply: where to go on, the empty text at the end; then names, `<position>:<redelivery>`; of `letters`, which are the
--        dead ones too, `<position of the letter>:<position of its event>`. Of what is no delivery nothing is told.
--
-- Streams are read forwards: what enters one while it is read, enters at its end. Lists and sorted sets are read
-- from their ends to their heads, which is where things leave: so nothing that stays is passed over.

local S, place, lane, at, count = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local names, size, read = {}, 0, 0

local function take(frame, letter)
  size = size + string.len(frame)
  read = read + 1
  local name = name_of(frame)
  if name ~= '' and letter then name = letter .. ':' .. string.match(name, '^%d+') end
  if name ~= '' then names[#names + 1] = name end
end

if place == 'queue' or place == 'dead' or place == 'letters' then
  local start = at == '' and '-' or '(' .. at
  local stream = key(place == 'queue' and 'queue' or 'dead', S)
  while read < count and size < MAX_MOVED do
    local page = redis.call('XRANGE', stream, start, '+', 'COUNT', READ_AT_ONCE)
    for _, entry in ipairs(page) do
      take(field_of(entry, 'f') or '', place == 'letters' and string.match(entry[1], '^%d+'))
      at = entry[1]
      start = '(' .. at
    end
    if #page < READ_AT_ONCE then return { '', names } end
  end
  return { at, names }
end

local last = at == '' and -1 or tonumber(at)
while read < count and size < MAX_MOVED do
  local first, page = last - READ_AT_ONCE + 1, nil
  if place == 'lane' then
    page = redis.call('LRANGE', key('lane', S) .. ':' .. lane, first, last)
  else
    page = redis.call('ZRANGE', key(place, S), first, last)
  end
  for _, one in ipairs(page) do
    if place == 'joins' then
      read, names[#names + 1] = read + 1, one .. ':0'
    else
      take(one)
    end
  end
  if #page < READ_AT_ONCE then return { '', names } end
  last = first - 1
end
return { whole(last), names }
