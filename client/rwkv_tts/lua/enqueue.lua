-- Runs commands that enqueue a job, unless the queue is full.
-- KEYS: queue. ARGV: how many jobs may wait, then commands, each as its length and its words.
-- Returns 1, or 0 when nothing was run.
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
local i = 2
while i <= #ARGV do
  redis.call(unpack(ARGV, i + 1, i + tonumber(ARGV[i])))
  i = i + tonumber(ARGV[i]) + 1
end
return 1
