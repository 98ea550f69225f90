-- Runs the commands that end jobs, each job's only while its execution is still in the started registry.
--
-- KEYS: the worker's hash. ARGV: 'idle' when these are the last jobs that it has, else ''; then, for each job: started
-- registry, entry in it, set of dependents or '', number of commands, and each command as its length and its words.
-- Returns for each job: done, lost (somebody else has decided it), dependents (there are some, nothing was run), or
-- an error. A command that fails ends its job's commands, not the others'. Where one may not be run none is: what
-- was written before it would be written again when the outcome is repeated.
local i, verdicts, idle = 2, {}, ARGV[1] == 'idle'
local function may_all(first, commands)
  for _ = 1, commands do
    local size = tonumber(ARGV[first])
    if not redis.acl_check_cmd(unpack(ARGV, first + 1, first + size)) then
      return false, ARGV[first + 1]
    end
    first = first + size + 1
  end
  return true
end
while i <= #ARGV do
  local wip, member, dependents, commands = unpack(ARGV, i, i + 3)
  i = i + 4
  local verdict = 'done'
  if not redis.call('ZSCORE', wip, member) then
    verdict = 'lost'
  elseif dependents ~= '' and redis.call('EXISTS', dependents) == 1 then
    verdict = 'dependents'
  elseif redis.acl_check_cmd then -- since Redis 7.0
    local may, command = may_all(i, tonumber(commands))
    if not may then
      verdict, idle = 'error NOPERM this user may not run ' .. command .. ' as the end of a job needs', false
    end
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
