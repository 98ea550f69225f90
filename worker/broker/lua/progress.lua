-- Notes what running jobs have made so far, each job's only while its execution is still in the started registry.
--
-- KEYS: a started registry. ARGV: seconds that it lasts, then for each job: started registry, entry in it, stream for
-- listeners, stream for a successor, number, the job's hash and its new meta (empty: it stays), and for each of the two
-- streams how many words its entry has, and those.
-- Returns for each job: done, lost (somebody else has it), or an error. An entry that is there already, from a try
-- whose answer was lost, is done; a stream that has ended is that of an earlier run of the job, and gone.
local i, verdicts = 2, {}
local function add(key, number, first, count)
  if count == 0 then return nil end
  local function write() return redis.pcall('XADD', key, number .. '-0', unpack(ARGV, first, first + count - 1)) end
  local reply = write()
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'equal or smaller', 1, true) then
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
    if last[1] and last[1][2][1] ~= 'end' then return nil end
    redis.call('DEL', key)
    reply = write()
  end
  if type(reply) == 'table' and reply.err then return 'error ' .. reply.err end
  redis.call('EXPIRE', key, ARGV[1])
  return nil
end
local function show(job, meta)
  if meta == '' or redis.call('EXISTS', job) == 0 then return nil end
  local reply = redis.pcall('HSET', job, 'meta', meta)
  if type(reply) == 'table' and reply.err then return 'error ' .. reply.err end
  return nil
end
while i <= #ARGV do
  local registry, member, heard, kept, number, job, meta = unpack(ARGV, i, i + 6)
  local words = tonumber(ARGV[i + 7])
  local first = i + 8
  local more = tonumber(ARGV[first + words])
  local verdict = 'lost'
  if redis.call('ZSCORE', registry, member) then
    verdict = add(heard, number, first, words) or add(kept, number, first + words + 1, more) or show(job, meta) or 'done'
  end
  verdicts[#verdicts + 1] = verdict
  i = first + words + 1 + more
end
return verdicts
