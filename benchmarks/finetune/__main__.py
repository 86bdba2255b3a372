"""Training and export, each against what it should hold: `python -m benchmarks.finetune`."""

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.finetune.runs import LIMITS, Trained, encoded, estimated, export, job_training, plain_training, rows

from tunesmith_finetune.base_models import BASE_MODELS
from tunesmith_finetune.base_store import BaseModelStore
from tunesmith_finetune.export import Exporter
from tunesmith_finetune.llama_cpp import Toolbox
from tunesmith_finetune.settings import WorkerSettings

USUAL = {"n_epochs": 1, "batch_size": 8, "learning_rate": 1e-4}
ONE_STEP = 1024
"""Batches of a step, of which there are fewer: the whole epoch is one step, whose loss counts each token alike."""


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4, help="steps of 8 rows that each training has")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the comparison with the plain script")
    given = parser.parse_args()
    settings = WorkerSettings()
    base_store = BaseModelStore(settings.cache_dir, LIMITS)
    base = BASE_MODELS["smollm2-135m-instruct"]
    base_folder = asyncio.run(base_store.prepare(base))
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as scratch:
        folder = Path(scratch)
        _against_the_plain_script(folder, base_folder, given.steps, given.repeats)
        _packing(folder, base_folder, given.steps)
        _nf4(folder, base_folder)
        _estimates(folder, base_folder)
        tools = asyncio.run(Toolbox(settings.cache_dir, settings.llama_cpp_requirements, LIMITS).get())
        exporter = Exporter(tools, LIMITS, folder / "export.log")
        _export(exporter, base_folder, base_store.f16_gguf(base), folder)


def _against_the_plain_script(folder: Path, base_folder: Path, steps: int, repeats: int) -> None:
    given = rows(8 * steps, 60, 100)
    ours: list[Trained] = []
    plain: list[Trained] = []
    for repeat in range(repeats):
        trained, chosen, bf16 = job_training(folder / f"job-{repeat}", base_folder, encoded(base_folder, given), USUAL)
        ours.append(trained)
        plain.append(plain_training(folder / f"plain-{repeat}", base_folder, given, chosen, bf16))
    paces = [statistics.median(run.pace for run in runs) for runs in (ours, plain)]
    peaks = [statistics.median(run.peak_bytes for run in runs) for runs in (ours, plain)]
    _say("a job against the plain script", f"{paces[0]:.0f} and {paces[1]:.0f} tokens/s", paces[0] / paces[1], 0.97)
    _say("  peak memory", f"{peaks[0] / 2**20:.0f} and {peaks[1] / 2**20:.0f} MiB", peaks[0] / peaks[1], None)


def _packing(folder: Path, base_folder: Path, steps: int) -> None:
    tokens = encoded(base_folder, rows(8 * steps, 4, 120))
    slow = {**USUAL, "learning_rate": 1e-9, "gradient_accumulation_steps": ONE_STEP}
    alone, *_ = job_training(folder / "alone", base_folder, tokens, slow)
    packed, *_ = job_training(folder / "packed", base_folder, tokens, {**slow, "packing": True, "batch_size": "auto"})
    lengths = [len(row["input_ids"]) for row in tokens if "input_ids" in row]
    any_order, by_length = _padding(lengths), _padding(sorted(lengths))
    ratio, losses = packed.pace / alone.pace, (packed.loss or 0.0, alone.loss or 1.0)
    _say("packed against alone", f"{packed.pace:.0f} and {alone.pace:.0f} tokens/s", ratio, 0.9 / (1 - by_length))
    _say("  padding by length, in any order", f"{by_length:.0%}, {any_order:.0%}", 1 / (1 - any_order), None)
    _say("  mean loss", f"{losses[0]:.4f} and {losses[1]:.4f}", losses[0] / losses[1], None)


def _padding(lengths: list[int]) -> float:
    """Return the share of padding in batches of eight rows in this order."""
    padded = sum(max(batch) * len(batch) for batch in (lengths[at : at + 8] for at in range(0, len(lengths), 8)))
    return 1 - sum(lengths) / padded


def _nf4(folder: Path, base_folder: Path) -> None:
    tokens = encoded(base_folder, rows(16, 60, 100))
    none, *_ = job_training(folder / "none", base_folder, tokens, USUAL)
    four, *_ = job_training(folder / "nf4", base_folder, tokens, {**USUAL, "quantization": "nf4"})
    _say("NF4 against none", f"{four.pace:.0f} and {none.pace:.0f} tokens/s", four.pace / none.pace, None)
    peaks = [run.peak_bytes for run in (four, none)]
    _say("  peak memory", f"{peaks[0] / 2**20:.0f} and {peaks[1] / 2**20:.0f} MiB", peaks[0] / peaks[1], None)


def _estimates(folder: Path, base_folder: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "short rows": {**USUAL},
        "long rows, checkpointed": {**USUAL, "batch_size": 2, "gradient_checkpointing": True},
    }
    for (name, asked), tokens in zip(settings.items(), (rows(32, 60, 100), rows(8, 300, 400)), strict=True):
        given = encoded(base_folder, tokens)
        trained, chosen, _ = job_training(folder / f"measured {name}", base_folder, given, asked)
        seconds, peak = estimated(folder / f"estimated {name}", base_folder, given, chosen)
        _say(f"estimate, {name}", f"{seconds:.0f} and {trained.seconds:.0f} s", seconds / trained.seconds, None)
        figures = f"{peak / 2**20:.0f} and {trained.peak_bytes / 2**20:.0f} MiB"
        _say("  peak memory", figures, peak / trained.peak_bytes, None)


def _export(exporter: Exporter, base_folder: Path, base_gguf: Path, folder: Path) -> None:
    seconds = 0.0
    for done in export(exporter, base_folder, base_gguf, folder / "job-0" / "adapter", folder / "export"):
        sys.stdout.write(
            f"{done.step:<34} {done.seconds:6.1f} s, {done.peak_bytes / 1e6:7.1f} MB on disk at the peak\n"
        )
        seconds += 0 if "once" in done.step else done.seconds
    sys.stdout.write(f"{'export, the base cached':<34} {seconds:6.1f} s (at most 60)\n")


def _say(what: str, figures: str, ratio: float, wanted: float | None) -> None:
    at_least = f" (at least {wanted:.2f})" if wanted is not None else ""
    sys.stdout.write(f"{what:<34} {figures:<28} ratio {ratio:.2f}{at_least}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
