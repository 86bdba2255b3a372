"""A job's folder: where each step leaves what the next one needs."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import AsyncFileLock

from tunesmith_finetune.checkpoints import last_whole_checkpoint


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
        """The folder with what was learnt: PEFT's adapter, or the whole model."""
        return self.folder / "adapter"

    @property
    def training(self) -> Path:
        """What the training process says of the finished training."""
        return self.folder / "training.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's logs, where trainings are logged there."""
        return self.folder / "tensorboard"

    @property
    def adapter_gguf(self) -> Path:
        """The adapter as GGUF."""
        return self.folder / "adapter.gguf"

    @property
    def merged_gguf(self) -> Path:
        """Base and adapter together, in half precision; removed when it has been quantised."""
        return self.folder / "merged-f16.gguf"

    def model_gguf(self, gguf_type: str) -> Path:
        """The finished model in one of the types that the job writes."""
        return self.folder / f"model-{gguf_type}.gguf"

    @property
    def imatrix(self) -> Path:
        """How much each weight matters for the training data; not there when nobody asked for it."""
        return self.folder / "imatrix.gguf"

    @property
    def published(self) -> Path:
        """The names that the job's models have, and their manifests' digests."""
        return self.folder / "published.json"

    @property
    def check(self) -> Path:
        """What the finished files are, what was found of them, and what the model answered."""
        return self.folder / "check.json"

    @property
    def is_merged(self) -> bool:
        """Whether the job makes a model file of its own; else its adapter is served on the base as it is."""
        merged: bool = read_json(self.plan)["hyperparameters"]["merge"]
        return merged

    def trained_figures(self, name: str) -> Path:
        """What the training process measured of the base or the adapter, on all rows that it measures."""
        return self.folder / f"{name}.figures.json"

    @property
    def proof(self) -> Path:
        """The texts and the files that are measured before the model gets its name."""
        return self.folder / "proof.json"

    @property
    def figures(self) -> Path:
        """What was measured of them."""
        return self.folder / "figures.json"

    @property
    def losses(self) -> Path:
        """The losses of base, adapter and finished files on the same rows; not there when they were not measured."""
        return self.folder / "losses.json"

    @property
    def pause(self) -> Path:
        """There when the training process is to save a checkpoint and end."""
        return self.folder / "pause"

    @property
    def lock(self) -> AsyncFileLock:
        """Return the lock that a step of the job holds, so that two runs of it are never at work at once."""
        return AsyncFileLock(self.folder / ".lock")

    def done(self, step: str) -> Path:
        """There when the step of this name is done, in whichever run."""
        return self.folder / f"{step}.done"

    def remove_drafts(self) -> None:
        """Remove what was left half written: files and folders named so, and checkpoints that are not whole."""
        for draft in self.folder.glob("*.part"):  # dot files too
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
        last_whole_checkpoint(self.folder / "checkpoints")

    def remove_intermediates(self) -> None:
        """Remove what the job needed on its way: the store has the models; the adapter stays beside the figures."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        for path in (*self.folder.glob("*.gguf"), *self.folder.glob("*figures.json"), self.proof):
            path.unlink(missing_ok=True)

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


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows as tokens in `path`, without their numbers in the dataset; none where there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [{name: value for name, value in json.loads(line).items() if name != "row"} for line in lines]
