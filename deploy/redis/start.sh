#!/bin/sh
# Starts the server with the roles of users.acl; arguments go to the server.
#
# USERS_TEMPLATE is that file, USERS_FILE what the server reads, in a folder in memory. SECRETS is a folder that holds
# a file of one password for each role, redis_<role>. The operator's own role is admin, which may do everything.
set -eu
umask 077

digest() {
  password=$(cat "$SECRETS/redis_$1")
  [ -n "$password" ] || { echo "redis_$1: empty; accepted: a file with one line, the password" >&2; exit 2; }
  printf %s "$password" | sha256sum | cut -d ' ' -f 1
}

admin=$(digest admin)
{
  echo 'user default off'
  echo "user admin on #$admin ~* &* +@all"
} > "$USERS_FILE"
for role in worker producer voices dashboard tuner; do
  digest=$(digest "$role")
  sed -n "s/^\(user $role on #\)0*/\1$digest/p" "$USERS_TEMPLATE" >> "$USERS_FILE"
done

# The default user is off, so nothing is open to whom protected mode would keep out.
exec valkey-server --aclfile "$USERS_FILE" --protected-mode no "$@"
