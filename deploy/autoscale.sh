#!/bin/sh
# Scales the workers of docker-compose.yml between LEAST and MOST, one at a time: one more while a new job would wait
# longer than WAIT seconds, one less while it would wait less than one. A worker that is stopped drains.
set -eu
: "${SERVICE:=worker}" "${LEAST:=1}" "${MOST:=4}" "${WAIT:=30}" "${EVERY:=60}"
while sleep "$EVERY"; do
  workers=$(docker compose ps -q "$SERVICE" | wc -l)
  load=$(docker compose exec -T "$SERVICE" rwkv-tts load)
  wait=$(echo "$load" | sed -n 's/.*"estimated_wait_seconds": \([0-9]*\).*/\1/p')
  wanted=$workers
  [ "${wait:-1}" -le "$WAIT" ] || wanted=$((workers + 1)) # empty while nobody can tell
  [ "${wait:-1}" -gt 0 ] || wanted=$((workers - 1))
  [ "$wanted" -ge "$LEAST" ] && [ "$wanted" -le "$MOST" ] && [ "$wanted" -ne "$workers" ] || continue
  docker compose up -d --no-recreate --no-deps --scale "$SERVICE=$wanted" "$SERVICE"
done
