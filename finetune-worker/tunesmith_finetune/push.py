"""Send what a job made to a model hub: the child process of a job that names a repository.

    python -m tunesmith_finetune.push <job folder> <repository> <adapter|gguf> <private|public>

Reads the job's adapter or GGUF files and the model card `card.md` from the job's folder, and makes one commit of them.
The hub's address and the token are huggingface_hub's own variables, HF_ENDPOINT and HF_TOKEN. Prints the commit's
address. Sending the same files again makes no second copy of them.
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "0"  # this process is the one that may

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError


def files_of(folder: Path, content: str) -> dict[str, Path]:
    """Return what is sent, by its name in the repository."""
    if content == "gguf":
        return {path.name: path for path in sorted(folder.glob("model-*.gguf"))}
    return {
        path.name: path for path in sorted((folder / "adapter").iterdir()) if path.suffix in (".safetensors", ".json")
    }


def main(folder: Path, repository: str, content: str, visibility: str) -> None:
    """Send the files. Leaves with a sentence when the hub does not take them."""
    found = {**files_of(folder, content), "README.md": folder / "card.md"}
    hub = HfApi()
    try:
        hub.create_repo(repository, private=visibility == "private", exist_ok=True)
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in found.items()]
        commit = hub.create_commit(repository, operations, commit_message="Fine-tuned with Tunesmith")
    except (HfHubHTTPError, OSError, ValueError) as error:
        sys.exit(f"the hub did not take the model: {' '.join(str(error).split())}")
    sys.stdout.write(f"{commit.commit_url}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:5])
