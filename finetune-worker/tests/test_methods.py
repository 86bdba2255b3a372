"""Every method of training, on a tiny model with random weights and the real tokenizer, in this process."""

import io
import json
import math
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunesmith_finetune import planning
from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.progress import Reporter
from tunesmith_finetune.testing import ROWS
from tunesmith_finetune.train import main
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_shared.schemas.jobs import Method

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, which training in a child process hides, too

Train = Callable[..., tuple[Path, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "base"
    runpy.run_path(str(Path(__file__).with_name("tiny_base.py")))["make"](base_folder, folder)
    return folder


def _example(index: int, method: str) -> Example:
    prompt, answer = ROWS[index % len(ROWS)]
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

    def run(method: str = "supervised", **asked: Any) -> tuple[Path, list[dict[str, Any]]]:
        encoder = Encoder(tiny_base)
        rows = [encoder.encode(_example(index, method)) for index in range(12)]
        wanted = Method.model_validate({"type": method, method: {"hyperparameters": {"lora_rank": 4, **asked}}}).chosen
        size = planning.measure(rows)
        chosen = planning.choose(wanted, method, size, 8192)
        write_json_lines(tmp_path / "train.tokens.jsonl", rows)
        write_json_lines(tmp_path / "valid.tokens.jsonl", rows[:3])
        plan = {
            "method": method,
            "base_folder": str(tiny_base),
            "seed": 7,
            "threads": 1,
            "report_to": [],
            "run_name": "m",
        }
        write_json(tmp_path / "plan.json", {**plan, **planning.training_plan(chosen, size)})
        said = io.StringIO()
        main(tmp_path, Reporter(said))
        return tmp_path, [json.loads(line) for line in said.getvalue().splitlines()]

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


def test_packed_rows_have_the_loss_that_they_have_alone(train: Train) -> None:
    asked = {"n_epochs": 1, "learning_rate": 1e-9, "max_length": 512, "scheduler": "linear"}
    _, alone = train(batch_size=12, **asked)
    _, packed = train(packing=True, **asked)
    first, second = (next(r["train_loss"] for r in said if r["type"] == "metrics") for said in (alone, packed))
    assert second == pytest.approx(first, rel=1e-3)


@pytest.mark.parametrize("scheduler", ["linear", "cosine", "constant", "polynomial", "inverse_sqrt"])
def test_the_learning_rate_rises_first_and_follows_its_schedule(train: Train, scheduler: str) -> None:
    _, said = train(scheduler=scheduler, warmup_ratio=0.5, n_epochs=2, batch_size=3, learning_rate=1e-4)
    rates = [report["learning_rate"] for report in said if report["type"] == "metrics"]
    assert rates[0] < rates[1] < rates[2]
    assert max(rates) == pytest.approx(1e-4, rel=0.3)
    assert (rates[-1] < max(rates)) == (scheduler != "constant")


def test_accumulated_and_checkpointed_steps_learn_the_same(train: Train) -> None:
    asked = {"n_epochs": 1, "learning_rate": 0.01, "scheduler": "constant", "warmup_ratio": 0, "lora_dropout": 0}
    whole, _ = train(batch_size=4, **asked)
    plain = load_file(whole / "adapter" / "adapter_model.safetensors")
    parts, _ = train(batch_size=2, gradient_accumulation_steps=2, gradient_checkpointing=True, **asked)
    assert _outcome(parts)["steps"] == 3
    assert plain.keys() == load_file(parts / "adapter" / "adapter_model.safetensors").keys()
