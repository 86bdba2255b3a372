"""One run of each thing that is compared: a job's training, the plain script, and the steps of an export."""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

import psutil

from tunesmith_finetune import planning
from tunesmith_finetune.datasets.encode import EncodedRow, Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.export import Exporter
from tunesmith_finetune.hyperparameters import Chosen
from tunesmith_finetune.preview import padded_tokens
from tunesmith_finetune.processes import Limits, run_child
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_shared.schemas.jobs import Method

WORDS = ("keeper", "lamp", "rocks", "ships", "fog", "waits", "lights", "above", "home", "sea", "tower", "storm")
LIMITS = Limits(None, 3600)


@dataclass(frozen=True)
class Trained:
    """What a training took: seconds of its steps, tokens that were read, peak of memory in bytes, mean loss."""

    seconds: float
    tokens: int
    peak_bytes: int
    loss: float | None = None

    @property
    def pace(self) -> float:
        """Tokens a second, padding not counted."""
        return self.tokens / self.seconds


def rows(count: int, shortest: int, longest: int) -> list[dict[str, Any]]:
    """Return `count` rows whose answers have from `shortest` to `longest` words, always the same."""
    draw = random.Random(7)  # noqa: S311 - the words are no secret
    made = []
    for _ in range(count):
        answer = " ".join(draw.choices(WORDS, k=draw.randint(shortest, longest)))
        made.append(
            {
                "prompt": [{"role": "user", "content": f"Tell me of {draw.choice(WORDS)}."}],
                "completion": [{"role": "assistant", "content": answer}],
            }
        )
    return made


def encoded(base_folder: Path, given: list[dict[str, Any]]) -> list[EncodedRow]:
    """Return `given` as the tokens that a job makes of them."""
    encoder = Encoder(base_folder)
    examples = [
        Example(row=index, messages=[*row["prompt"], *row["completion"]], text=None, chosen=None, rejected=None)
        for index, row in enumerate(given)
    ]
    return [encoder.encode(example) for example in examples]


def job_training(
    folder: Path, base_folder: Path, given: list[EncodedRow], asked: dict[str, Any]
) -> tuple[Trained, Chosen, bool]:
    """Train in `folder` as a job does; give what it took, its hyperparameters, and if it computed in bfloat16."""
    folder.mkdir(parents=True)
    size = planning.measure(given)
    wanted = Method.model_validate({"supervised": {"hyperparameters": asked}}).chosen
    chosen = planning.choose(wanted, "supervised", size, 8192)
    write_json_lines(folder / "train.tokens.jsonl", given)
    write_json_lines(folder / "valid.tokens.jsonl", given[:1])
    plan = {"method": "supervised", "base_folder": str(base_folder), "seed": 7, "threads": os.cpu_count() or 1}
    write_json(folder / "plan.json", {**plan, "report_to": [], "run_name": "", **planning.training_plan(chosen, size)})
    lines, peak = _run([sys.executable, "-m", "tunesmith_finetune.train_child", str(folder)], folder / "log")
    bf16 = next(json.loads(line)["bfloat16"] for line in lines if '"setup"' in line)
    outcome = json.loads((folder / "training.json").read_text())
    trained = Trained(outcome["seconds"], size.tokens * chosen.n_epochs, peak, outcome["train_loss"])
    return trained, chosen, bf16


def estimated(folder: Path, base_folder: Path, given: list[EncodedRow], chosen: Chosen) -> tuple[float, int]:
    """Return the seconds and bytes that the preview of a training with these hyperparameters would tell."""
    folder.mkdir(parents=True)
    mean, most = padded_tokens(given, "supervised", chosen)
    size = planning.measure(given)
    request = {
        "base_folder": str(base_folder),
        "method": "supervised",
        "hyperparameters": chosen.model_dump(),
        "steps": planning.steps_an_epoch(chosen, size) * chosen.n_epochs,
        "tokens_a_step": mean * chosen.gradient_accumulation_steps,
        "most_tokens": most,
        "learnt_share": size.learnt_tokens / size.tokens,
        "threads": os.cpu_count() or 1,
    }
    write_json(folder / "request.json", request)
    command = [sys.executable, "-m", "tunesmith_finetune.estimate", str(folder / "request.json")]
    lines, _ = _run(command, folder / "log")
    answer = json.loads(lines[-1])
    return answer["seconds"], answer["memory_bytes"]


def plain_training(folder: Path, base_folder: Path, given: list[dict[str, Any]], chosen: Chosen, bf16: bool) -> Trained:
    """Train in `folder` with the plain script; `bf16`: its products are in bfloat16."""
    folder.mkdir(parents=True)
    asked = {"rows": given, "hyperparameters": chosen.model_dump(), "bf16": bf16, "threads": os.cpu_count() or 1}
    write_json(folder / "request.json", {"base_folder": str(base_folder), **asked})
    command = [sys.executable, str(Path(__file__).with_name("plain.py")), str(folder / "request.json")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with _watching() as most, (folder / "log").open("wb") as log:
        done = subprocess.run(command, env=environment, check=True, text=True, stdout=PIPE, stderr=log)
    return Trained(**json.loads(done.stdout.splitlines()[-1]), peak_bytes=most[0])


def _run(command: list[str], log: Path) -> tuple[list[str], int]:
    """Run `command` as a job runs its children; give the lines that it printed, and its most memory in bytes."""
    lines: list[str] = []

    async def hear(line: str) -> None:
        lines.append(line)

    with _watching() as most:
        asyncio.run(run_child(command, title=command[2], log=log, limits=LIMITS, on_line=hear))
    return lines, most[0]


@contextmanager
def _watching() -> Iterator[list[int]]:
    """Look at the child processes until the block ends; what is given has the most resident memory that one had."""
    most, stop = [0], threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            for child in psutil.Process().children(recursive=True):
                with suppress(OSError):
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    peaks = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
                    most[0] = max(most[0], *(kilobytes * 1024 for kilobytes in peaks), 0)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join()


@dataclass(frozen=True)
class Exported:
    """A step of an export: its seconds, and by how many bytes the disk was fuller at its peak."""

    step: str
    seconds: float
    peak_bytes: int


def export(exporter: Exporter, base_folder: Path, base_gguf: Path, adapter: Path, folder: Path) -> list[Exported]:
    """Export `adapter` to Q4_K_M in `folder`, step after step; the base's GGUF is made once."""
    folder.mkdir(parents=True, exist_ok=True)
    merged, lora = folder / "merged.gguf", folder / "adapter.gguf"
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("adapter to GGUF", lambda: exporter.adapter_to_gguf(adapter, base_folder, lora)),
        ("merge", lambda: exporter.merge(base_gguf, lora, merged)),
        ("quantise to Q4_K_M", lambda: exporter.quantise(merged, folder / "model.gguf", "Q4_K_M", None)),
    ]
    if not base_gguf.exists():
        steps.insert(0, ("base to GGUF (once)", lambda: exporter.base_to_f16(base_folder, base_gguf)))
    return [_exported(step, run, (folder, base_gguf.parent)) for step, run in steps]


def _exported(step: str, run: Callable[[], Any], folders: tuple[Path, ...]) -> Exported:
    stop, most, before = threading.Event(), 0, _bytes_in(folders)

    def look() -> None:
        nonlocal most
        while not stop.wait(0.1):
            most = max(most, _bytes_in(folders) - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    started = time.monotonic()
    try:
        asyncio.run(run())
    finally:
        seconds = time.monotonic() - started
        stop.set()
        watcher.join()
    return Exported(step, seconds, max(most, _bytes_in(folders) - before))


def _bytes_in(folders: tuple[Path, ...]) -> int:
    total = 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                total += path.stat().st_size if path.is_file() else 0
            except OSError:  # gone meanwhile
                continue
    return total
