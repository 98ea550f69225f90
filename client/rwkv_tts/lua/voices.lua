-- Reads fields of the hash of voices, none that is too long.
-- KEYS: the hash. ARGV: the most bytes, then fields.
-- Returns for each field its value, its length where that is too long, or nothing.
local found = {}
for i = 2, #ARGV do
  local length = redis.call('HSTRLEN', KEYS[1], ARGV[i])
  found[i - 1] = length > tonumber(ARGV[1]) and length or redis.call('HGET', KEYS[1], ARGV[i])
end
return found
