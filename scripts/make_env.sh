#!/bin/sh
# Makes .env for Docker Compose: copies .env.example when there is no .env, and fills in every secret that is empty.
# What is there already stays as it is, so it can be run again at any time.
#   scripts/make_env.sh [FILE]     default: .env beside docker-compose.yml
set -eu

case ${1:-} in -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
file=${1:-$root/.env}

umask 077
random() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

draft=$(mktemp "$file.XXXXXX")
trap 'rm -f "$draft"' EXIT
if [ -e "$file" ]; then source=$file; else source=$root/.env.example; fi
made=
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
        POSTGRES_PASSWORD= | TUNESMITH_SERVICE_TOKEN=) made="$made ${line%=}" line=$line$(random) ;;
        TUNESMITH_API_KEY=) made="$made ${line%=}" line=${line}ts-$(random) ;;
    esac
    printf '%s\n' "$line"
done <"$source" >"$draft"
mv "$draft" "$file"
echo "$file is ready${made:+; generated:$made}." >&2
