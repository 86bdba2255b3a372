#!/bin/sh
# Writes requirements/tunesmith.lock: every Python dependency of every service, with hashes.
# torch is not in it (requirements/torch.txt pins it); requirements/excludes.txt says what else is left out, and why.
set -eu
cd "$(dirname "$0")/.."

.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command "make lock" \
    --excludes requirements/excludes.txt --no-emit-package tunesmith-shared \
    --group pyproject.toml:run --group pyproject.toml:dev \
    shared/pyproject.toml gateway/pyproject.toml rag-service/pyproject.toml \
    finetune-worker/pyproject.toml engine/pyproject.toml \
    --output-file requirements/tunesmith.lock "$@"
