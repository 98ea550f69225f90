#!/bin/sh
# Makes the secrets that docker-compose.yml names, in deploy/secrets; what is there already is kept.
#
# Containers read them under users of their own, so the files are readable by all; their folder keeps others out.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
for name in redis_admin redis_worker redis_producer redis_voices redis_dashboard redis_tuner dashboard_login grafana_admin; do
  [ -e "secrets/$name" ] || head -c 24 /dev/urandom | base64 | tr '+/' '-_' > "secrets/$name"
  chmod 444 "secrets/$name"
done

# The gateway reads digests of keys; the key itself, for its clients, lies beside them.
if [ ! -e secrets/gateway_keys ]; then
  head -c 24 /dev/urandom | base64 | tr '+/' '-_' > secrets/gateway_key
  digest=$(tr -d '\n' < secrets/gateway_key | sha256sum | cut -d ' ' -f 1)
  echo "first $digest voices" > secrets/gateway_keys
fi
chmod 444 secrets/gateway_key*
