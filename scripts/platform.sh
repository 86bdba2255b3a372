# Sourced by the scripts that ask a running platform: finds its address and its administrator's key, embedded or in
# Compose. TUNESMITH_URL and TUNESMITH_API_KEY win; then .env (Compose); then data/secrets/api_key (make run).
# shellcheck shell=sh

root=$(cd "$(dirname "$0")/.." && pwd)
say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }

from_env_file() { [ ! -f "$root/.env" ] || sed -n "s/^$1=//p" "$root/.env" | tail -1; }

port=${TUNESMITH_PORT:-$(from_env_file TUNESMITH_PORT)}
url=${TUNESMITH_URL:-http://127.0.0.1:${port:-8000}}
key=${TUNESMITH_API_KEY:-$(from_env_file TUNESMITH_API_KEY)}
key_file=${TUNESMITH_DATA_DIR:-$root/data}/secrets/api_key
[ -n "$key" ] || [ ! -f "$key_file" ] || key=$(cat "$key_file")

# ask METHOD PATH: prints the answer's body; ends the script, with what the platform said, when it is no success.
# The key goes through standard input, so that no list of processes shows it.
ask() {
    [ -n "$key" ] || die "No API key: set TUNESMITH_API_KEY, or run this beside .env or data/."
    answer=$(printf 'header = "Authorization: Bearer %s"\n' "$key" |
        curl -sS -K - -X "$1" -w '\n%{http_code}' "$url$2") || die "No platform answers at $url."
    status=${answer##*
}
    body=${answer%
*}
    case $status in 2*) printf '%s\n' "$body" ;; *) die "$1 $2 answered $status: $body" ;; esac
}

# Percent-encodes a model's name for a URL.
encoded() { printf '%s' "$1" | sed 's/%/%25/g; s/:/%3A/g; s,/,%2F,g; s/ /%20/g; s/&/%26/g; s/+/%2B/g; s/#/%23/g; s/?/%3F/g'; }
