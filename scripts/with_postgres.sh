#!/bin/sh
# Runs a command with DATABASE_URL naming a PostgreSQL server: scripts/with_postgres.sh COMMAND [ARGUMENT…]
# The server that DATABASE_URL names already, or else a throwaway one of the installed PostgreSQL, which is removed
# afterwards. On Debian and Ubuntu, root installs PostgreSQL when it is missing. A command that stops and starts the
# throwaway server finds its programs in POSTGRES_BIN and its folder in POSTGRES_DATA, whose owner must run them.
set -eu

[ $# -gt 0 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
case ${DATABASE_URL:-} in postgres*) exec "$@" ;; esac

find_binaries() {
    for folder in "$(command -v initdb 2>/dev/null | xargs -r dirname)" /usr/lib/postgresql/*/bin; do
        [ -x "$folder/initdb" ] && { echo "$folder"; return; }
    done
    return 1
}
if ! binaries=$(find_binaries); then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
        echo "PostgreSQL is missing: install it, or set DATABASE_URL to a server whose role may create databases." >&2
        exit 1
    }
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
    binaries=$(find_binaries)
fi

folder=$(mktemp -d)
as() { "$@"; }
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
    chown postgres "$folder"
    as() { runuser -u postgres -- "$@"; }
fi
stop() { as "$binaries/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$folder"; }
trap stop EXIT INT TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
as "$binaries/initdb" -D "$folder/data" -U tunesmith --auth=trust -E UTF8 >/dev/null
as sh -c "cat >>$folder/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$folder'
CONF
as "$binaries/pg_ctl" -D "$folder/data" -l "$folder/log" -w start >/dev/null
DATABASE_URL="postgresql://tunesmith@127.0.0.1:$port/postgres" POSTGRES_DATA="$folder/data" POSTGRES_BIN="$binaries" "$@"
