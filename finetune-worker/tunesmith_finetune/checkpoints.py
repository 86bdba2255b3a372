"""Which checkpoint a training may go on from: only one that was written to its end."""

import shutil
from pathlib import Path

MARK = "whole"


def mark_whole(checkpoint: Path) -> None:
    """Note that `checkpoint` is complete; the note is its last file."""
    (checkpoint / MARK).touch()


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in `folder`, if there is one, and remove what was left half written."""
    found: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / MARK).exists():
            found[int(checkpoint.name.rpartition("-")[2])] = checkpoint
        else:
            shutil.rmtree(checkpoint)
    return found[max(found)] if found else None
