#!/usr/bin/env bash
# Proves the Compose stack by running it: builds the images, starts them with the project's own engine, runs the story
# over HTTP from outside, kills the worker in a fine-tuning and the engine in a chat, looks at what is published and who
# runs as root, restores a backup into a fresh stack, cleans that, and takes everything down.
# Without a Docker engine it says so and ends well.
#   TORCH_CPU_INDEX   another index to take torch's CPU build from
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
python=${PYTHON:-.venv/bin/python}
say() { printf '\n== %s\n' "$*"; }

if ! docker info >/dev/null 2>&1; then
    echo "test-compose is left out: $(docker info 2>&1 >/dev/null | tail -1 || true)"
    echo "It needs a Docker Engine that this user may use (docker info), and the Compose plugin 2.24.4 or newer."
    exit 0
fi
if ! docker compose version >/dev/null 2>&1; then
    echo "test-compose is left out: Docker has no Compose plugin (docker compose version)."
    exit 0
fi

scratch=$(mktemp -d)
export COMPOSE_PROJECT_NAME=tunesmith-test-$$
export COMPOSE_FILE=docker-compose.yml:docker-compose.embedded.yml
export COMPOSE_ENV_FILES=$scratch/env
SECONDS=0
TUNESMITH_VERSION=test TUNESMITH_BIND=127.0.0.1
TUNESMITH_PORT=$("$python" -c 'from tunesmith_shared.testing import free_port; print(free_port())')
TUNESMITH_REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
export TUNESMITH_VERSION TUNESMITH_BIND TUNESMITH_PORT TUNESMITH_REVISION

finish() {
    status=$?
    if [ $status != 0 ]; then
        say "failed; the last lines of every container"
        docker compose ps --all || true
        docker compose logs --no-color --tail 25 || true
    fi
    docker compose down --volumes --timeout 5 >/dev/null 2>&1 || true
    rm -rf "$scratch"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

scripts/make_env.sh "$scratch/env"
TUNESMITH_URL=http://127.0.0.1:$TUNESMITH_PORT
TUNESMITH_API_KEY=$(sed -n 's/^TUNESMITH_API_KEY=//p' "$scratch/env")
export TUNESMITH_URL TUNESMITH_API_KEY

say "what the files say, before anything is started"
"$python" scripts/check_config.py "$scratch/env"

say "building the images"
started=$SECONDS
docker compose build --quiet ${TORCH_CPU_INDEX:+--build-arg TORCH_CPU_INDEX="$TORCH_CPU_INDEX"}
echo "built in $((SECONDS - started)) s"
"$python" scripts/check_images.py
"$python" scripts/check_compose.py ports-before >"$scratch/ports"

say "starting the stack"
started=$SECONDS
docker compose up --detach --wait --quiet-pull >"$scratch/up" 2>&1 || { cat "$scratch/up"; exit 1; }
docker compose ps --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'
"$python" scripts/check_compose.py healthy
echo "healthy after $((SECONDS - started)) s"

say "what is published, and who runs as root"
"$python" scripts/check_compose.py published "$scratch/ports"
"$python" scripts/check_compose.py users
"$python" scripts/check_compose.py confinement

say "the story, over HTTP from outside"
"$python" -m pytest -q tests/test_story.py

say "the download of base models starts, in a container of its own"
docker compose run --rm base-model --help >"$scratch/help"
head -1 "$scratch/help"

say "the engine is killed in the middle of a chat"
"$python" scripts/check_compose.py chat-survives

say "the worker is killed in the middle of a fine-tuning"
"$python" scripts/check_compose.py training-survives

say "a backup, restored into a fresh stack"
"$python" scripts/check_compose.py answers >"$scratch/before"
scripts/backup.sh "$scratch/backup"
"$python" scripts/check_compose.py stops
docker compose down --volumes >/dev/null 2>&1
docker compose up --detach --wait >/dev/null 2>&1
scripts/restore.sh "$scratch/backup" --yes
"$python" scripts/check_compose.py answers >"$scratch/after"
diff "$scratch/before" "$scratch/after"
echo "the restored stack knows and answers the same"

say "the clean scripts"
scripts/clean_vector_db.sh --all
scripts/clean_ollama_cache.sh
scripts/clean_vector_db.sh --all --yes
scripts/clean_ollama_cache.sh --yes
"$python" scripts/check_compose.py cleaned

say "everything held, after $((SECONDS / 60)) min $((SECONDS % 60)) s"
