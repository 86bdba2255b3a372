"""A job's folder: where each step leaves what the next one needs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Workspace:
    """The folder `<data_dir>/jobs/<job id>/`. A file that is there is whole."""

    folder: Path

    @property
    def plan(self) -> Path:
        """The training process's arguments."""
        return self.folder / "plan.json"

    @property
    def adapter(self) -> Path:
        """The folder with PEFT's adapter."""
        return self.folder / "adapter"

    @property
    def training(self) -> Path:
        """What the training process says of the finished training."""
        return self.folder / "training.json"

    @property
    def adapter_gguf(self) -> Path:
        """The adapter as GGUF."""
        return self.folder / "adapter.gguf"

    @property
    def merged_gguf(self) -> Path:
        """Base and adapter together, in half precision; removed when it has been quantised."""
        return self.folder / "merged-f16.gguf"

    @property
    def model_gguf(self) -> Path:
        """The finished model."""
        return self.folder / "model.gguf"

    @property
    def check(self) -> Path:
        """What the finished file is, and what the model answered."""
        return self.folder / "check.json"

    @property
    def quantised(self) -> Path:
        """The finished file's loss on the evaluation rows; not there when it was not measured."""
        return self.folder / "quantised.json"

    @property
    def log(self) -> Path:
        """What child processes print."""
        return self.folder / "job.log"

    def examples(self, part: str, index: int) -> Path:
        """The rows of one dataset of the part `train` or `valid` as chats."""
        return self.folder / f"{part}-{index}.examples.jsonl"

    def tokens(self, part: str) -> Path:
        """The rows of the part `train` or `valid` as tokens."""
        return self.folder / f"{part}.tokens.jsonl"


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
