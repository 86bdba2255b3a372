"""A base model from the hub: the child process that asks for its revision and fetches its files.

    python -m tunesmith_finetune.hub resolve <organisation/name> <revision>
    python -m tunesmith_finetune.hub fetch <organisation/name> <revision> <folder>

Only safetensors, configuration and tokenizer are fetched, never code and nothing that is unpickled. The hub's address
and the token are huggingface_hub's own variables, HF_ENDPOINT and HF_TOKEN. The answer is a JSON object on standard
output: `revision` (immutable) and `license`, or `error` with its `kind`. The folder appears whole.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo

from tunesmith_finetune.base_models import RECORD
from tunesmith_finetune.whole import write_json

WANTED = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*",
          "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.jinja")  # fmt: skip
BELOW = "*/*"
SPARE_BYTES = 256 * 2**20


class Refused(Exception):
    """The hub's model cannot be trained from."""


def resolve(repository: str, revision: str) -> dict[str, Any]:
    """Return the immutable revision and the license of a model. Raises `Refused`, and huggingface_hub's errors."""
    info = _info(repository, revision)
    return {"revision": info.sha, "license": _license(info)}


def fetch(repository: str, revision: str, folder: Path) -> dict[str, Any]:
    """Fetch a model into `folder`. Raises `Refused` when it has no safetensors or the disk no room."""
    info = _info(repository, revision)
    needed = sum(file.size or 0 for file in info.siblings or []) + SPARE_BYTES
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise Refused(
            f"{needed / 2**20:.0f} MiB are needed in {folder.parent} and {free / 2**20:.0f} MiB are free. "
            "Free some space, then start the job again."
        )
    draft = folder.with_name(f".{folder.name}.fetched")  # kept when interrupted: the next try goes on with it
    snapshot_download(
        repository, revision=info.sha, local_dir=draft, allow_patterns=list(WANTED), ignore_patterns=[BELOW]
    )
    shutil.rmtree(draft / ".cache", ignore_errors=True)
    record = {"repository": repository, "revision": info.sha, "license": _license(info)}
    write_json(draft / RECORD, record)
    draft.rename(folder)
    return record


def _info(repository: str, revision: str) -> ModelInfo:
    info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    names = [file.rfilename for file in info.siblings or []]
    if not any(name.endswith(".safetensors") and "/" not in name for name in names):
        raise Refused(f"'{repository}' has no safetensors; other weights could run code and are not read.")
    return info


def _license(info: ModelInfo) -> str:
    named = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    return named[0] if named else "unknown"


def _failure(repository: str, error: Exception) -> dict[str, str]:
    if isinstance(error, Refused):
        return {"kind": "refused", "error": str(error)}
    if isinstance(error, GatedRepoError):
        message = f"'{repository}' is gated: accept its terms on the hub, and set HF_TOKEN for the finetune-worker."
        return {"kind": "refused", "error": message}
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return {"kind": "not_found", "error": f"The hub has no model '{repository}', or not in this revision."}
    return {"kind": "away", "error": f"The hub did not give '{repository}' ({type(error).__name__}). Try again."}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the answer
    action, name, wanted, *place = sys.argv[1:]
    try:
        answer = resolve(name, wanted) if action == "resolve" else fetch(name, wanted, Path(place[0]))
    except (Refused, HfHubHTTPError, HTTPError, OSError) as problem:
        sys.stderr.write(f"{problem!r}\n")
        answer = _failure(name, problem)
    answers.write(json.dumps(answer) + "\n")
