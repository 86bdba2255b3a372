"""A worker that was set up for a GPU says so in the job when it finds none."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tunesmith_finetune.event_repository import EventRepository
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.repository import JobRepository
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_finetune.steps.training import _Listener
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.tables import Job

SETUP = '{"type": "setup", "device": "%s", "quantization": "none", "bfloat16": false}'


@pytest.mark.parametrize(("expected", "device", "warnings"), [(True, "cpu", 1), (True, "cuda", 0), (False, "cpu", 0)])
async def test_training_on_a_cpu_for_want_of_a_gpu_is_a_warning_in_the_job(
    tmp_path: Path, database_url: str, expected: bool, device: str, warnings: int
) -> None:
    database = Database(database_url)
    jobs, told = JobRepository(database), EventRepository(database)
    job = Job(
        id="ftjob-1", owner="a", model="m", model_name="m:latest", status="running", training_file="file-1", seed=1,
        method={}, request={}, created_at=now(),
    )  # fmt: skip
    await jobs.add(job)
    settings = WorkerSettings(data_dir=tmp_path, expect_gpu=expected)
    pipeline = cast("Pipeline", SimpleNamespace(jobs=jobs, events=told, settings=settings))
    plan: dict[str, Any] = {"hyperparameters": {}, "method": "supervised"}
    await _Listener(pipeline, job, plan).hear(SETUP % device)
    events = await told.events_since(job.id, None)
    await database.close()
    assert events[0].message.startswith(f"training on {device}")
    assert len([event for event in events if event.level == "warn" and "nvidia-smi" in event.message]) == warnings
