-- Keeps note that some worker is heard.
-- KEYS: presence. ARGV: how long it lasts, in ms.
-- Returns for how many seconds, by the server's clock, some worker has always been heard.
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
-- A clock that was set back would make the past begin in the future, and nobody could be judged until then.
local since = math.min(tonumber(redis.call('GET', KEYS[1])) or now, now)
redis.call('SET', KEYS[1], string.format('%.6f', since), 'PX', ARGV[1])
return string.format('%.6f', now - since)
