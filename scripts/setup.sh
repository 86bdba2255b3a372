#!/bin/sh
# Makes .venv with everything that the lock names; does nothing when it is up to date.
#   PYTHON                  the interpreter to use (default: python3)
#   TUNESMITH_TORCH_INDEX   a package index to take torch from, such as https://download.pytorch.org/whl/cpu
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
say() { printf '%s\n' "$*" >&2; }

command -v "$python" >/dev/null || { say "Python is missing: install Python 3.11 or newer, or set PYTHON."; exit 1; }
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || {
    say "$("$python" -V) is not usable: Tunesmith needs Python 3.11 to 3.14. Set PYTHON to one of them."; exit 1; }

wanted=$(cat requirements/*.lock requirements/*.txt pyproject.toml ./*/pyproject.toml scripts/setup.sh | cksum)
stamp=.venv/.tunesmith-setup
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted $PWD" ] && exit 0

free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
[ "$free" -ge 4 ] || { say "Too little disk: the setup needs 4 GiB here and $free GiB are free."; exit 1; }

say "Setting up .venv (once): 170 packages, then torch."
"$python" -m venv .venv
pip=".venv/bin/python -m pip --disable-pip-version-check"
$pip install --quiet --require-hashes -r requirements/uv.txt

# uv does not read pip's configuration: pass the index on, where a person set one.
index=${PIP_INDEX_URL:-$($pip config get global.index-url 2>/dev/null || true)}
[ -z "$index" ] || UV_DEFAULT_INDEX=$index
[ -z "$index" ] || export UV_DEFAULT_INDEX

.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements/tunesmith.lock
# After the lock, so that torch finds what it needs and brings only what its own build adds (CUDA's libraries, say).
$pip install --quiet ${TUNESMITH_TORCH_INDEX:+--index-url "$TUNESMITH_TORCH_INDEX"} -r requirements/torch.txt
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation \
    --editable shared --editable gateway --editable rag-service --editable finetune-worker --editable engine
# Where Python may not keep what it compiles, every process would compile what it imports anew: compile it once, here. It
# takes most of a minute, so not where Python does it by and by. A package can carry files for another Python: no failure.
[ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || .venv/bin/python -m compileall -qq -j 0 .venv/lib || true
echo "$wanted $PWD" >"$stamp"
say "The setup is done."
