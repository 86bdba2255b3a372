"""What the training has measured is not measured again; finished files are, on the same rows."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith_finetune import measures
from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.evaluate import run_over
from tunesmith_finetune.event_repository import EventRepository
from tunesmith_finetune.measures import ADAPTER, BASE
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.repository import JobRepository
from tunesmith_finetune.steps.measurement import measure
from tunesmith_finetune.testing import ROWS
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_finetune.workspace import Workspace
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.tables import Job


@pytest.fixture
def workspace(tmp_path: Path, tiny_cache: dict[str, str], tiny_gguf: Path) -> Workspace:
    """The folder of a job that learnt nothing: its merged file is the tiny base."""
    workspace = Workspace(tmp_path)
    (base,) = Path(tiny_cache["TUNESMITH_CACHE_DIR"], "base-models").glob("*instruct-1")
    chosen = {"gguf_type": "F16", "merge": True, "beta": None}
    write_json(
        workspace.plan, {"base_folder": str(base), "threads": 1, "method": "supervised", "hyperparameters": chosen}
    )
    encoder = Encoder(base)
    rows: list[Any] = []
    for number, (asked, answered) in enumerate(ROWS):
        messages: Any = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        rows.append(encoder.encode(Example(row=number, messages=messages, text=None, chosen=None, rejected=None)))
    write_json_lines(workspace.tokens("train"), rows)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    figures = run_over(model, 0, nullcontext, measures.texts(rows))
    for name in (BASE, ADAPTER):
        write_json(workspace.trained_figures(name), {"figures": figures})
    workspace.merged_gguf.hardlink_to(tiny_gguf)
    workspace.model_gguf("F16").hardlink_to(tiny_gguf)
    return workspace


async def _measured(workspace: Workspace, database_url: str) -> tuple[dict[str, Any], list[str]]:
    """Measure as the verification does; give the losses, and the names of what a child process measured for it."""
    database = Database(database_url)
    job = Job(
        id="ftjob-1", owner="a", model="m", model_name="m:latest", status="running", training_file="file-1", seed=1,
        method={}, request={}, created_at=now(),
    )  # fmt: skip
    await JobRepository(database).add(job)
    pipeline = SimpleNamespace(
        workspace=lambda _job: workspace, events=EventRepository(database), training_limits=Limits(None, 600)
    )
    losses = await measure(cast("Pipeline", pipeline), job)
    await database.close()
    assert json.loads(workspace.losses.read_text()) == losses
    return losses, [subject["name"] for subject in json.loads(workspace.proof.read_text())["subjects"]]


async def test_the_merged_file_is_measured_like_base_and_adapter_in_training(
    workspace: Workspace, database_url: str
) -> None:
    write_json(workspace.training, {"quantization": "none", "number_format": "float32"})
    losses, measured = await _measured(workspace, database_url)
    assert (list(losses), measured) == (["base", "adapter", "merged", "F16"], ["merged", "F16"])
    for found in losses.values():
        assert found["loss"] == pytest.approx(losses["base"]["loss"], rel=1e-5)
        assert found["tokens"] == losses["base"]["tokens"] > 0


async def test_what_was_measured_on_a_quantised_base_is_measured_again(workspace: Workspace, database_url: str) -> None:
    write_json(workspace.training, {"quantization": "nf4", "number_format": "float32"})
    plan = json.loads(workspace.plan.read_text())
    write_json(workspace.plan, {**plan, "hyperparameters": {"gguf_type": None, "merge": False, "beta": None}})
    expected = json.loads(workspace.trained_figures(BASE).read_text())["figures"]
    for name in (BASE, ADAPTER):
        write_json(workspace.trained_figures(name), {"figures": []})
    workspace.adapter.symlink_to(plan["base_folder"])  # a model whose weights were all learnt, and are as they were
    losses, measured = await _measured(workspace, database_url)
    assert (list(losses), measured) == (["base", "adapter"], ["base", "adapter"])
    loss = -sum(log for log, *_ in expected) / sum(tokens for *_, tokens in expected)
    assert losses["base"]["loss"] == losses["adapter"]["loss"] == pytest.approx(loss, rel=1e-5)
