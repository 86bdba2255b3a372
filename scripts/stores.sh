# Sourced by backup.sh and restore.sh: where a platform keeps its data, embedded or in Compose.
# shellcheck shell=sh

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }

# What is kept beside the database; `cache` can be made again.
volumes="vectors files models jobs documents"
# Everything that writes to them, and Chroma and Ollama, whose files are copied.
writers="gateway rag-service finetune-worker ollama chromadb"

data=${TUNESMITH_DATA_DIR:-$root/data}

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

embedded_is_stopped() {
    port=${TUNESMITH_PORT:-8000}
    ! curl -s -o /dev/null --max-time 5 "http://127.0.0.1:$port/health" ||
        die "A platform runs at port $port: stop it first (Ctrl-C where make run was started)."
}
