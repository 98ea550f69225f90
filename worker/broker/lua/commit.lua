-- Runs the commands that end jobs, each job's only while its execution is still in the started registry.
--
-- KEYS: the worker's hash. ARGV: 'idle' when these are the last jobs that it has, else ''; then, for each job: started
-- registry, entry in it, set of dependents or '', number of commands, and each command as its length and its words.
-- Returns for each job: done, lost (somebody else has decided it), dependents (there are some, nothing was run), or
-- an error. A command that fails ends its job's commands, not the others'.
local i, verdicts, idle = 2, {}, ARGV[1] == 'idle'
while i <= #ARGV do
  local wip, member, dependents, commands = unpack(ARGV, i, i + 3)
  i = i + 4
  local verdict = 'done'
  if not redis.call('ZSCORE', wip, member) then
    verdict = 'lost'
  elseif dependents ~= '' and redis.call('EXISTS', dependents) == 1 then
    verdict = 'dependents'
  end
  for _ = 1, tonumber(commands) do
    local size = tonumber(ARGV[i])
    if verdict == 'done' then
      local reply = redis.pcall(unpack(ARGV, i + 1, i + size))
      if type(reply) == 'table' and reply.err then verdict, idle = 'error ' .. reply.err, false end
    end
    i = i + size + 1
  end
  verdicts[#verdicts + 1] = verdict
end
if idle then redis.pcall('HSET', KEYS[1], 'state', 'idle') end
return verdicts
