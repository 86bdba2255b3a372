"""A job that comes while llama.cpp's tools are being built says so, and goes on when they are there."""

import asyncio
from pathlib import Path

from tunesmith_finetune.base_store import BaseModelStore
from tunesmith_finetune.event_repository import EventRepository
from tunesmith_finetune.llama_cpp import LlamaCpp, Toolbox
from tunesmith_finetune.model_repository import ModelRepository
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.publish import Publisher
from tunesmith_finetune.repository import JobRepository
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_finetune.steps.conversion import await_tools
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.files import FileStore
from tunesmith_shared.store import ModelStore
from tunesmith_shared.tables import Job

LIMITS = Limits(None, 60)


class SlowToolbox(Toolbox):
    """A toolbox whose build ends when a test says so."""

    async def _ensure(self) -> LlamaCpp:
        self.state = "building llama.cpp's tools: 42%"
        await self.finish.wait()
        return LlamaCpp(self.cache_dir)

    finish: asyncio.Event


async def test_a_job_waits_for_the_tools_and_tells_so(tmp_path: Path, database_url: str) -> None:
    settings = WorkerSettings(data_dir=tmp_path, cache_dir=tmp_path / "cache")
    database = Database(database_url)
    jobs, events = JobRepository(database), EventRepository(database)
    publisher = Publisher(ModelStore(settings.models_path), settings.ollama_host)
    toolbox = SlowToolbox(settings.cache_dir, settings.llama_cpp_requirements, LIMITS)
    toolbox.finish = asyncio.Event()
    pipeline = Pipeline(
        settings=settings,
        jobs=jobs,
        events=events,
        models=ModelRepository(database),
        files=FileStore(settings.files_path),
        bases=BaseModelStore(settings.cache_dir, LIMITS),
        toolbox=toolbox,
        publisher=publisher,
    )
    job = Job(
        id="ftjob-1", owner="a", model="m", model_name="m:latest", status="running", training_file="file-1", seed=1,
        method={}, request={}, created_at=now(),
    )  # fmt: skip
    await jobs.add(job)

    toolbox.start()
    waiting = asyncio.create_task(await_tools(pipeline, job, progress_seconds=0.05))
    await asyncio.wait_for(_told(events, "building llama.cpp's tools: 42%"), 20)
    toolbox.finish.set()
    assert (await asyncio.wait_for(waiting, 20)).folder == settings.cache_dir

    messages = [event.message for event in await events.events_since(job.id, None)]
    assert messages[0] == "building llama.cpp tools"
    assert messages[-1].startswith("llama.cpp tools are ready in ")
    await publisher.close()
    await database.close()


async def _told(events: EventRepository, message: str) -> None:
    """Return when the job of this test has an event that says `message`."""
    while message not in [e.message for e in await events.events_since("ftjob-1", None)]:  # noqa: ASYNC110 - in a database
        await asyncio.sleep(0.02)
