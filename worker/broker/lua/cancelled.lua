-- Which running jobs are to stop; notes that are too old are forgotten, and so is what is no note.
-- KEYS: for each queue, the jobs that are to stop, by when that was asked for. ARGV: the oldest time that counts, and
-- the most ids of each queue. Returns ids.
local found = {}
for _, key in ipairs(KEYS) do
  if not string.match(redis.call('TYPE', key).ok, '^[nz]') then redis.call('DEL', key) end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', ARGV[1])
  for _, id in ipairs(redis.call('ZRANGE', key, 0, ARGV[2] - 1)) do found[#found + 1] = id end
end
return found
