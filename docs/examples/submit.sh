#!/bin/sh
# Speaks a request from a shell, with nothing but redis-cli 7 and the tools of GNU:
#
#   REDISCLI_AUTH=... sh submit.sh '{"text": "Hello."}' hello.wav -h redis.example.org --user producer
#
# What follows the output file are options of redis-cli. docs/producers.md explains the commands.
set -eu
request=$1 output=$2
shift 2
[ "$#" -gt 0 ] || set -- -h 127.0.0.1

queue=tts
id=$(cat /proc/sys/kernel/random/uuid)
now=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
call="[\"worker.tasks.synthesize\", null, [], {\"request\": $request}]"

redis-cli -e "$@" HSET "rq:job:$id" status queued origin "$queue" created_at "$now" enqueued_at "$now" \
  description speech timeout 180 data "$call" > /dev/null
redis-cli -e "$@" SADD rq:queues "rq:queue:$queue" > /dev/null
redis-cli -e "$@" RPUSH "rq:queue:$queue" "$id" > /dev/null # the last: from here on a worker may take it

field() { printf '%s\n' "$result" | sed -n "/^$1\$/{n;p;q}"; }
result=
while [ -z "$result" ]; do
  result=$(redis-cli -e --raw "$@" XREAD BLOCK 5000 COUNT 1 STREAMS "rq:results:$id" 0-0)
done

if [ "$(field type)" != 1 ]; then
  # The reason is a zlib stream; gzip reads it behind a header of its own, and misses only the checksum.
  { printf '\037\213\010\0\0\0\0\0\0\0'; field exc_string | base64 -d | tail -c +3; } | gzip -dc >&2 2> /dev/null || :
  exit 1
fi
field return_value | base64 -d && echo
redis-cli -e --raw "$@" GET "rwkv-tts:audio:$id" | head -c -1 > "$output"
