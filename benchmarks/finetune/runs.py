"""One run of each thing that is compared: a job's training, the plain script, and the steps of an export."""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_finetune import planning
from tunesmith_finetune.datasets.encode import EncodedRow, Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.export import Exporter
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_shared.schemas.jobs import Method

WORDS = ("keeper", "lamp", "rocks", "ships", "fog", "waits", "lights", "above", "home", "sea", "tower", "storm")
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


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
) -> tuple[Trained, dict[str, Any], bool]:
    """Train in `folder` as a job does; give what it took, its hyperparameters, and if it computed in bfloat16."""
    folder.mkdir(parents=True)
    size = planning.measure(given)
    wanted = Method.model_validate({"supervised": {"hyperparameters": asked}}).chosen
    chosen = planning.choose(wanted, "supervised", size, 8192)
    write_json_lines(folder / "train.tokens.jsonl", given)
    plan = {"method": "supervised", "base_folder": str(base_folder), "seed": 7, "threads": os.cpu_count() or 1}
    write_json(folder / "plan.json", {**plan, "report_to": [], "run_name": "", **planning.training_plan(chosen, size)})
    lines, peak = _watched([sys.executable, "-m", "tunesmith_finetune.train", str(folder)])
    bf16 = next(json.loads(line)["bfloat16"] for line in lines if '"setup"' in line)
    outcome = json.loads((folder / "training.json").read_text())
    trained = Trained(outcome["seconds"], size.tokens * chosen.n_epochs, peak, outcome["train_loss"])
    return trained, chosen.model_dump(), bf16


def plain_training(
    folder: Path, base_folder: Path, given: list[dict[str, Any]], chosen: dict[str, Any], bf16: bool
) -> Trained:
    """Train in `folder` with the plain script; `bf16`: its products are in bfloat16."""
    folder.mkdir(parents=True)
    asked = {"rows": given, "hyperparameters": chosen, "bf16": bf16, "threads": os.cpu_count() or 1}
    write_json(folder / "request.json", {"base_folder": str(base_folder), **asked})
    script = str(Path(__file__).with_name("plain.py"))
    lines, _ = _watched([sys.executable, script, str(folder / "request.json")])
    return Trained(**json.loads(lines[-1]))


def _watched(command: list[str]) -> tuple[list[str], int]:
    """Run `command`; give the lines that it printed, and the most memory that it had, in bytes."""
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    peak = 0

    def look() -> None:
        nonlocal peak
        while done.poll() is None:
            try:
                status = Path(f"/proc/{done.pid}/status").read_text()
            except OSError:
                return
            found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
            peak = max(peak, *(int(kilobytes) * 1024 for kilobytes in found)) if found else peak
            time.sleep(0.2)

    watcher = threading.Thread(target=look)
    watcher.start()
    output, errors = done.communicate()
    watcher.join()
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return output.splitlines(), peak


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
