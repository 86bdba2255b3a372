"""Download a base model from the Hugging Face hub, for fine-tuning to start from.

    python scripts/load_base_model.py HuggingFaceTB/SmolLM2-360M-Instruct
    python scripts/load_base_model.py mistralai/Mistral-7B-v0.3 --revision main --dry-run
    docker compose run --rm base-model HuggingFaceTB/SmolLM2-360M-Instruct     in Compose

Only weights in safetensors, the tokenizer and the configuration are taken: nothing that could run code. The revision is
pinned to its commit when the download begins and is written down in base-model.json. An interrupted download goes on
where it was when the same command is given again; a model has its folder only when every file is whole and is what the
hub says it is. For gated models, HF_TOKEN in the environment is the token. HF_ENDPOINT names another hub.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import re
import shutil
import struct
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import filelock
import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get

WEIGHTS = "*.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.msgpack", "*.h5")
TEXTS = (
    "config.json", "generation_config.json", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
    "LICENSE*", "NOTICE*",
)  # fmt: skip
RECORD = "base-model.json"
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
SPARE_BYTES = 256 * 2**20
LONGEST_HEADER = 100 * 2**20
"""What the safetensors format allows a header to have, in bytes."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of the repository: `hash` is its sha256 where the hub keeps one, else the sha1 of its git blob."""

    name: str
    bytes: int
    hash: str


@dataclass(frozen=True)
class Plan:
    """What to download: the commit with its license, and its files."""

    repository: str
    revision: str
    license: str
    files: tuple[RemoteFile, ...]

    @property
    def total(self) -> int:
        """All files' bytes."""
        return sum(file.bytes for file in self.files)


def main() -> None:
    """Read the command line and download; every refusal is a sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", help="owner/name on the hub")
    parser.add_argument("--revision", default="main", help="branch, tag or commit (default: main)")
    parser.add_argument("--to", type=Path, default=default_folder(), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="say what would be downloaded, and end")
    arguments = parser.parse_args()
    if constants.HF_HUB_OFFLINE:
        sys.exit("HF_HUB_OFFLINE is set: unset it to let this script reach the hub.")
    try:
        plan = look_up(arguments.repository, arguments.revision)
        folder = arguments.to / plan.repository.replace("/", "--") / plan.revision
        if arguments.dry_run:
            show(plan, folder)
        else:
            load(plan, folder)
    except GatedRepoError:
        sys.exit(f"{arguments.repository} is gated: accept its terms on the hub, then set HF_TOKEN to your token.")
    except (RepositoryNotFoundError, HFValidationError):
        sys.exit(f"The hub has no model {arguments.repository}, or it is private: check the name, or set HF_TOKEN.")
    except RevisionNotFoundError:
        sys.exit(f"{arguments.repository} has no revision {arguments.revision}.")
    except filelock.Timeout:
        sys.exit(f"{arguments.repository} is being downloaded by another process; wait for it.")
    except HfHubHTTPError as error:
        if error.response.status_code in REFUSED:
            sys.exit(f"The hub refuses: set HF_TOKEN to a token that may read {arguments.repository}.")
        sys.exit(interrupted(error))
    except OSError as error:
        if error.filename:
            sys.exit(f"{error.filename} cannot be written: {error.strerror}.")
        sys.exit(interrupted(error))
    except httpx2.HTTPError as error:
        sys.exit(interrupted(error))


def interrupted(error: Exception) -> str:
    """Say that the download can go on."""
    return f"The download was interrupted: {error}\nGive the same command again to go on."


def default_folder() -> Path:
    """Return where the worker looks for base models."""
    data = Path(os.environ.get("TUNESMITH_DATA_DIR", "data"))
    return Path(os.environ.get("TUNESMITH_BASE_MODELS_DIR") or data / "base-models")


def look_up(repository: str, revision: str) -> Plan:
    """Ask the hub what `revision` is and has; ends when there are no weights that may be taken."""
    info = HfApi(token=token()).model_info(repository, revision=revision, files_metadata=True)
    found = [sibling for sibling in info.siblings or [] if "/" not in sibling.rfilename]
    weights = fnmatch.filter((sibling.rfilename for sibling in found), WEIGHTS)
    if not weights:
        pickled = [item.rfilename for item in found if any(fnmatch.fnmatch(item.rfilename, kind) for kind in PICKLES)]
        sys.exit(
            f"{repository} has no weights in safetensors{', only ' + ', '.join(pickled) if pickled else ''}. "
            "Pickled weights can run code and are refused: choose a repository with safetensors."
        )
    # Beside model-00001-of-….safetensors some have the same weights again, as consolidated.safetensors.
    shards = set(fnmatch.filter(weights, "model*")) or set(weights)
    wanted = [
        item
        for item in found
        if item.rfilename in shards or any(fnmatch.fnmatch(item.rfilename, text) for text in TEXTS)
    ]
    if info.sha is None or not any(item.rfilename == "config.json" for item in wanted):
        sys.exit(f"{repository} has no config.json: it is no model that can be trained.")
    files = [
        RemoteFile(item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else item.blob_id or "")
        for item in wanted
    ]
    named = [tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")]
    return Plan(info.id, info.sha, named[0] if named else "unknown", tuple(sorted(files, key=lambda file: file.bytes)))


def token() -> str | bool:
    """Return the token of the environment; False keeps the library from looking for one elsewhere."""
    return os.environ.get("HF_TOKEN") or False


def show(plan: Plan, folder: Path) -> None:
    """Say what a download would do."""
    print(f"{plan.repository} at {plan.revision}")
    for file in plan.files:
        print(f"  {file.bytes / 1e6:10.1f} MB  {file.name}")
    there = " (it is there already)" if folder.exists() else ""
    print(f"Would download {plan.total / 1e6:.1f} MB into {folder}{there}. Nothing was downloaded.")


def load(plan: Plan, folder: Path) -> None:
    """Download what is missing, check everything, and give the folder its name. Raises the hub's errors, OSError."""
    if folder.exists():
        print(f"{plan.repository} at {plan.revision} is there already: {folder}")
        return
    draft = folder.with_name(f".{folder.name}.part")
    draft.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(draft.with_name(f"{draft.name}.lock"), timeout=0):
        done = sum(path.stat().st_size for path in draft.iterdir())
        free = shutil.disk_usage(draft).free
        if free < plan.total - done + SPARE_BYTES:
            sys.exit(f"{(plan.total - done) / 1e9:.1f} GB are needed in {draft} and {free / 1e9:.1f} GB are free.")
        for file in plan.files:
            fetch(plan, file, draft)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"repository": plan.repository, "revision": plan.revision, "license": plan.license}
        text = json.dumps({**record, "downloaded_at": made, "files": [asdict(file) for file in plan.files]}, indent=1)
        (draft / RECORD).write_text(text)
        draft.rename(folder)
    print(f"{plan.repository} at {plan.revision} is in {folder}")


def fetch(plan: Plan, file: RemoteFile, draft: Path) -> None:
    """Download one file, from where an earlier run stopped; ends when it is not what the hub says it is."""
    target = draft / file.name
    if target.exists():
        return
    part = draft / f"{file.name}.part"
    url = hf_hub_url(plan.repository, file.name, revision=plan.revision, endpoint=constants.ENDPOINT)
    location = get_hf_file_metadata(url, token=token()).location
    headers = {"accept-encoding": "identity"}  # a compressed file could not go on in the middle
    if token() and httpx2.URL(location).host == httpx2.URL(url).host:
        # A store of the hub on another host needs no token, and gets none.
        headers["authorization"] = f"Bearer {token()}"
    with part.open("ab") as output:
        there = output.tell()
        if there:
            print(f"{file.name}: goes on at {there / 1e6:.1f} of {file.bytes / 1e6:.1f} MB", flush=True)
        http_get(location, output, resume_size=there, headers=headers, expected_size=file.bytes)
        output.flush()
        os.fsync(output.fileno())
    if content_hash(part, file) != file.hash:
        part.unlink()
        sys.exit(f"{file.name} is damaged: its hash is not the hub's. It was removed; give the same command again.")
    if fnmatch.fnmatch(file.name, WEIGHTS):
        require_safetensors(part)
    part.rename(target)
    print(f"{file.name}: {file.bytes / 1e6:.1f} MB", flush=True)


def content_hash(path: Path, file: RemoteFile) -> str:
    """Return the hash of `path`, of the kind that the hub gives for `file`."""
    with path.open("rb") as content:
        if len(file.hash) == hashlib.sha256().digest_size * 2:
            return hashlib.file_digest(content, "sha256").hexdigest()
        # What git calls a blob's name; no secret depends on it.
        blob = hashlib.sha1(b"blob %d\0" % file.bytes, usedforsecurity=False)
        while chunk := content.read(2**20):
            blob.update(chunk)
        return blob.hexdigest()


def require_safetensors(path: Path) -> None:
    """End unless `path` has the header that its name promises: a length, and JSON."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            tensors = json.loads(file.read(length)) if length <= min(LONGEST_HEADER, size - 8) else None
        except (struct.error, ValueError):
            tensors = None
    if not isinstance(tensors, dict) or not re.search(r'"dtype"', json.dumps(tensors)):
        path.unlink()
        sys.exit(f"{path.stem} is called safetensors and is none: it is refused and removed.")


if __name__ == "__main__":
    main()
