"""Every method of training, on a tiny model with random weights and the real tokenizer, in this process."""

import io
import json
import math
import runpy
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM

from tunesmith_finetune import device, measures, planning
from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.evaluate import run_over
from tunesmith_finetune.progress import Reporter
from tunesmith_finetune.testing import ROWS
from tunesmith_finetune.train import main
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_finetune.workspace import read_rows
from tunesmith_shared.schemas.jobs import Method

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, which training in a child process hides, too

LOSS = "train/loss"
Train = Callable[..., tuple[Path, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "base"
    runpy.run_path(str(Path(__file__).with_name("tiny_base.py")))["make"](base_folder, folder)
    return folder


def _example(index: int, method: str, rows: list[tuple[str, str]]) -> Example:
    prompt, answer = rows[index % len(rows)]
    messages = [{"role": "user", "content": prompt}]
    example: dict[str, Any] = {"row": index, "messages": messages, "text": None, "chosen": None, "rejected": None}
    if method == "supervised":
        messages.append({"role": "assistant", "content": answer})
    elif method == "kto":
        example["chosen" if index % 3 else "rejected"] = answer
    else:
        example |= {"chosen": answer, "rejected": f"No. {prompt}"}
    return Example(**example)  # type: ignore[typeddict-item, no-any-return]


@pytest.fixture
def train(tmp_path: Path, tiny_base: Path) -> Train:
    """Train with a method and hyperparameters as a job does; give the job's folder and what was reported."""

    def run(
        method: str = "supervised",
        learnt: list[tuple[str, str]] = ROWS,
        evaluated: list[tuple[str, str]] | None = None,
        trackers: tuple[str, ...] = (),
        **asked: Any,
    ) -> tuple[Path, list[dict[str, Any]]]:
        encoder = Encoder(tiny_base)
        rows = [encoder.encode(_example(index, method, learnt)) for index in range(12)]
        valid = [encoder.encode(_example(index, method, evaluated)) for index in range(12)] if evaluated else rows[:3]
        wanted = Method.model_validate({"type": method, method: {"hyperparameters": {"lora_rank": 4, **asked}}}).chosen
        size = planning.measure(rows)
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        chosen = planning.choose(wanted, method, size, 8192)
        write_json_lines(folder / "train.tokens.jsonl", rows)
        write_json_lines(folder / "valid.tokens.jsonl", valid)
        plan = {
            "method": method,
            "base_folder": str(tiny_base),
            "seed": 7,
            "threads": 1,
            "report_to": list(trackers),
            "run_name": "m",
        }
        write_json(folder / "plan.json", {**plan, **planning.training_plan(chosen, size)})
        said = io.StringIO()
        main(folder, Reporter(said))
        return folder, [json.loads(line) for line in said.getvalue().splitlines()]

    return run


def _outcome(folder: Path) -> dict[str, Any]:
    outcome: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return outcome


@pytest.mark.parametrize(
    ("method", "before"), [("supervised", None), ("dpo", math.log(2)), ("orpo", None), ("kto", 0.5)]
)
def test_every_method_lowers_its_own_loss(train: Train, method: str, before: float | None) -> None:
    folder, said = train(method, n_epochs=6, batch_size=4, learning_rate=0.02)
    outcome = _outcome(folder)
    assert outcome["steps"] == 18
    assert outcome["after"]["loss"] < outcome["before"]["loss"]
    if before is not None:  # the model equals its reference
        assert outcome["before"]["loss"] == pytest.approx(before, abs=1e-3)
        assert outcome["before"]["reward_accuracy"] == 0.5
    if method != "supervised":
        assert outcome["after"]["reward_accuracy"] >= outcome["before"]["reward_accuracy"]
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert all(".lora_" in name for name in weights)
    steps = [report["step"] for report in said if report["type"] == "metrics"]
    assert steps == list(range(1, 19))


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_what_was_learnt_is_measured_in_full_precision(train: Train, tiny_base: Path, tuning: str) -> None:
    folder, _ = train(n_epochs=2, batch_size=4, learning_rate=0.02, tuning=tuning, lora_rank="auto")
    rows = read_rows(folder / "valid.tokens.jsonl")
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    learnt: Any = (
        PeftModel.from_pretrained(base, folder / "adapter")
        if tuning == "lora"
        else AutoModelForCausalLM.from_pretrained(folder / "adapter", dtype=torch.float32)
    )
    figures = run_over(learnt, 0, nullcontext, measures.texts(rows))
    loss = measures.measure("supervised", rows, figures, figures, None)["loss"]
    assert _outcome(folder)["after"]["loss"] == pytest.approx(loss, rel=1e-6)


def test_all_weights_are_learnt_and_saved_as_a_model(train: Train, tiny_base: Path) -> None:
    folder, _ = train(tuning="full", n_epochs=2, batch_size=4, learning_rate=0.005, lora_rank="auto")
    before, after = (load_file(path / "model.safetensors") for path in (tiny_base, folder / "adapter"))
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name].float(), after[name].float())]
    assert len(changed) == len(before)
    assert _outcome(folder)["after"]["loss"] < _outcome(folder)["before"]["loss"]


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_an_adapter_is_learnt_on_a_quantised_base(train: Train, quantization: str) -> None:
    folder, said = train(quantization=quantization, n_epochs=2, batch_size=4, learning_rate=0.02)
    assert next(report for report in said if report["type"] == "setup")["quantization"] == quantization
    assert _outcome(folder)["after"]["loss"] < _outcome(folder)["before"]["loss"]


def test_training_ends_early_when_nothing_gets_better(train: Train) -> None:
    asked = {"n_epochs": 8, "batch_size": 6, "learning_rate": 1e-30, "scheduler": "constant", "warmup_ratio": 0}
    folder, said = train(early_stopping_patience=1, evaluations=8, **asked)
    losses = {report["step"]: report["valid_loss"] for report in said if report["type"] == "validation"}
    assert list(losses) == [2, 4]
    assert _outcome(folder)["steps"] == 4
    assert _outcome(folder)["after"]["loss"] == pytest.approx(min(losses.values()), rel=1e-3)


def test_the_best_checkpoint_is_kept_where_the_loss_rises_again(train: Train) -> None:
    asked = {"n_epochs": 16, "batch_size": 12, "learning_rate": 0.02, "scheduler": "constant", "warmup_ratio": 0}
    others = list(zip((prompt for prompt, _ in ROWS), (answer for _, answer in ROWS[1:] + ROWS[:1]), strict=True))
    folder, said = train(evaluated=others, early_stopping_patience=2, evaluations=16, **asked)
    losses = {report["step"]: report["valid_loss"] for report in said if report["type"] == "validation"}
    best, last = min(losses, key=lambda step: losses[step]), max(losses)
    assert best < last < 16, losses
    assert losses[best] < losses[1]
    assert _outcome(folder)["after"]["loss"] == pytest.approx(losses[best], rel=0.01)
    kept = load_file(folder / "adapter" / "adapter_model.safetensors")
    at_best, at_last = (
        load_file(folder / "checkpoints" / f"checkpoint-{step}" / "adapter_model.safetensors") for step in (best, last)
    )
    assert all(torch.equal(weights, at_best[name]) for name, weights in kept.items())
    assert not all(torch.equal(weights, at_last[name]) for name, weights in kept.items())


def test_tensorboards_files_have_what_is_reported(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    _, said = train(trackers=("tensorboard",), n_epochs=1, batch_size=4)
    (file,) = (tmp_path / "tensorboard").iterdir()
    content, events, start = file.read_bytes(), [], 0
    while start < len(content):  # a record is its length, a checksum of four bytes, the event, and another checksum
        end = start + 12 + int.from_bytes(content[start : start + 8], "little")
        events.append(Event.FromString(content[start + 12 : end]))
        start = end + 4
    losses = {event.step: value.simple_value for event in events for value in event.summary.value if value.tag == LOSS}
    reported = {report["step"]: report["train_loss"] for report in said if report["type"] == "metrics"}
    assert losses == pytest.approx(reported)


def test_packed_rows_have_the_loss_that_they_have_alone(train: Train) -> None:
    asked = {"n_epochs": 1, "learning_rate": 1e-9, "max_length": 512, "scheduler": "linear"}
    _, alone = train(batch_size=12, **asked)
    _, packed = train(packing=True, batch_size=12, **asked)
    first, second = (next(r["train_loss"] for r in said if r["type"] == "metrics") for said in (alone, packed))
    assert second == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant", "polynomial", "inverse_sqrt"])
def test_the_learning_rate_rises_first_and_follows_its_schedule(train: Train, scheduler: str) -> None:
    _, said = train(scheduler=scheduler, warmup_ratio=0.5, n_epochs=2, batch_size=3, learning_rate=1e-4)
    rates = [report["learning_rate"] for report in said if report["type"] == "metrics"]
    assert rates[0] < rates[1] < rates[2]
    assert max(rates) == pytest.approx(1e-4, rel=0.3)
    assert (rates[-1] < max(rates)) == (scheduler != "constant")


def test_a_step_learns_the_same_whole_and_in_parts_of_unequal_length(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_has_fast_bfloat16", lambda: False)  # whose rounding hides what is looked for
    asked = {"n_epochs": 1, "learning_rate": 0.01, "scheduler": "constant", "warmup_ratio": 0, "lora_dropout": 0}
    unequal = [(prompt, answer * (1 + 2 * index)) for index, (prompt, answer) in enumerate(ROWS)]

    def learnt(**shape: Any) -> torch.Tensor:
        folder, _ = train(learnt=unequal, **asked, **shape)
        assert _outcome(folder)["steps"] == 3
        weights = load_file(folder / "adapter" / "adapter_model.safetensors")
        return torch.cat([weights[name].flatten() for name in sorted(weights)])

    whole = learnt(batch_size=4)
    parts = learnt(batch_size=1, gradient_accumulation_steps=4, gradient_checkpointing=True)
    assert torch.linalg.vector_norm(parts - whole) < 1e-3 * torch.linalg.vector_norm(whole)
