-- Puts back an id that a stock worker of one queue left in the intermediate list when it died early.
-- KEYS: intermediate list, queue. ARGV: id.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end
