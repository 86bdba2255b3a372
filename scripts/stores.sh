# Sourced by backup.sh and restore.sh: where a platform keeps its data, embedded or in Compose.
# shellcheck shell=sh

root=$(cd "$(dirname "$0")/.." && pwd)
started_in=$PWD
cd "$root"
say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }

# What is kept beside the database; `cache` can be made again.
volumes="vectors files models jobs documents"
# Everything that writes to them, and Chroma and Ollama, whose files are copied.
writers="gateway rag-service finetune-worker ollama chromadb"

data=${TUNESMITH_DATA_DIR:-$root/data}
case $data in /*) ;; *) data=$started_in/$data ;; esac

# Whether the platform is the stack of docker-compose.yml: when its containers are there.
in_compose() { [ -n "$(docker compose ps --quiet postgres 2>/dev/null)" ]; }

# The volume NAME of the stack, in full.
volume() {
    found=$(docker volume ls --quiet --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.volume=$1")
    [ -n "$found" ] || die "The stack has no volume $1; start it once."
    printf '%s' "$found"
}

# A command in a throwaway container that sees nothing but the volume NAME, as the user that owns it. nocopy: Docker
# would give an empty volume the owner of the folder that it is mounted on.
in_volume() {
    name=$1 access=$2
    shift 2
    docker run --rm --interactive --network none --read-only --cap-drop ALL --user 10001:10001 \
        --volume "$(volume "$name"):/volume:$access,nocopy" --workdir /volume "$image" "$@"
}

compose_facts() {
    project=$(docker compose config | sed -n 's/^name: //p')
    image=$(docker compose config --images storage) # which depends on no other service
}

# The process that `make run` started on $data, when it still runs.
embedded_platform() {
    pid=$(cat "$data/platform.pid" 2>/dev/null) || return 0
    case $(ps -p "$pid" -o args= 2>/dev/null) in *run.py*) printf '%s' "$pid" ;; esac
}

# All processes below PID: the services, their models and trainings.
descendants() {
    ps -A -o pid= -o ppid= | awk -v top="$1" '
        { parent[$1] = $2 }
        END { for (one in parent) { up = parent[one]; while (up != top && up in parent) up = parent[up]; if (up == top) print one } }'
}

# Ends the script while a platform works on $data. An empty folder has none.
embedded_is_stopped() {
    [ -n "$(ls -A "$data" 2>/dev/null)" ] || return 0
    port=${TUNESMITH_PORT:-8000}
    if [ -n "$(embedded_platform)" ] || curl -s -o /dev/null --max-time 5 "http://127.0.0.1:$port/health"; then
        die "A platform runs (port $port): stop it first, with Ctrl-C where make run was started."
    fi
}
