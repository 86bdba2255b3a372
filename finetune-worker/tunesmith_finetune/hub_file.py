"""A file of a model hub, at HF_ENDPOINT; a download that was cut goes on where it stopped, also in a later process.

`hf_hub_download` begins again in each process; its own pieces, which this uses, can go on.
"""

import hashlib
import re
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(repository: str, filename: str, folder: Path) -> Path:
    """Return `filename` of `repository`, downloaded into `folder`. Blocks until it is whole.

    Raises what the hub's client raises, and `ValueError` when the content is not what the hub announced.
    """
    url, headers = hf_hub_url(repository, filename), build_hf_headers()
    announced = get_hf_file_metadata(url)
    version = re.sub(r"[^0-9A-Za-z]", "", announced.etag or "")
    target, partial = folder / Path(filename).name, folder / f"{version}.part"
    folder.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as file:
        http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=announced.size)
    if _SHA256.fullmatch(version) and _digest(partial) != version:
        partial.unlink()
        raise ValueError("what came is not what the hub announced; try again")
    return partial.replace(target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
