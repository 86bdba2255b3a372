#!/bin/sh
# Writes requirements/tunesmith.lock: every Python dependency of every service, with hashes; and from it one lock a
# service, with the same versions and no more than that service needs: what its container image installs.
# torch is not in them (requirements/torch.txt pins it); requirements/excludes.txt says what else is left out, and why.
#   UV   the uv to use (default: .venv/bin/uv). Arguments go to uv: --upgrade, --upgrade-package NAME.
set -eu
cd "$(dirname "$0")/.."

compile() {
    "${UV:-.venv/bin/uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --custom-compile-command "make lock" \
        --excludes requirements/excludes.txt --no-emit-package tunesmith-shared "$@"
}

compile --group pyproject.toml:run --group pyproject.toml:dev \
    shared/pyproject.toml gateway/pyproject.toml rag-service/pyproject.toml \
    finetune-worker/pyproject.toml engine/pyproject.toml \
    --output-file requirements/tunesmith.lock "$@"

# Versions come from the one lock alone, never from what a service's lock said before: hence rm.
for service in gateway:gateway worker:finetune-worker engine:engine; do
    lock=requirements/${service%%:*}.lock
    rm -f "$lock"
    compile --constraints requirements/tunesmith.lock shared/pyproject.toml "${service#*:}/pyproject.toml" \
        --output-file "$lock"
done

# The rag-service's image has Chroma's HTTP client, of the version of the whole Chroma that it has otherwise.
rm -f requirements/rag.lock
sed -n 's/.*"chromadb==\(.*\)".*/chromadb-client==\1/p' rag-service/pyproject.toml |
    compile --constraints requirements/tunesmith.lock --excludes requirements/rag-image-excludes.txt \
        - shared/pyproject.toml rag-service/pyproject.toml --output-file requirements/rag.lock
