"""What a job's steps work with, and how a step tells people what it does."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tunesmith_finetune.base_models import BaseModel, unknown_base_model
from tunesmith_finetune.base_store import BaseModelStore
from tunesmith_finetune.datasets.mixture import Part
from tunesmith_finetune.datasets.source import Source
from tunesmith_finetune.event_repository import EventRepository
from tunesmith_finetune.llama_cpp import Toolbox
from tunesmith_finetune.model_repository import ModelRepository
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.publish import Publisher
from tunesmith_finetune.repository import JobRepository
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_finetune.workspace import Workspace
from tunesmith_shared.errors import NotFound
from tunesmith_shared.files import FileStore
from tunesmith_shared.memory import usable_memory
from tunesmith_shared.schemas.jobs import DatasetUse, JobCreate
from tunesmith_shared.tables import Job

DEFAULT_MEMORY_SHARE = 0.85


class SetAside(Exception):
    """The job was paused; what it has so far is kept for its next run."""


@dataclass(frozen=True)
class Pipeline:
    """Everything that steps share; opened by the application."""

    settings: WorkerSettings
    jobs: JobRepository
    events: EventRepository
    models: ModelRepository
    files: FileStore
    bases: BaseModelStore
    toolbox: Toolbox
    publisher: Publisher

    def workspace(self, job: Job) -> Workspace:
        """Return the folder of `job`, which is made if need be."""
        folder = self.settings.jobs_dir / job.id
        folder.mkdir(parents=True, exist_ok=True)
        return Workspace(folder)

    async def base_model(self, job: Job) -> BaseModel:
        """Return the base model of `job`. Raises `NotFound` when it is no longer known."""
        base = await asyncio.to_thread(self.bases.recall, str(job.request.get("base_model") or job.model))
        if base is None:
            raise unknown_base_model(job.model, await asyncio.to_thread(self.bases.known))
        return base

    async def datasets(self, job: Job) -> dict[str, list[Part]]:
        """Return the datasets of `job` by purpose: `train`, and `valid` if it has one. Raises `NotFound`."""
        return await self.datasets_of(JobCreate.model_validate(job.request["body"]), job.owner)

    async def datasets_of(self, body: JobCreate, owner: str) -> dict[str, list[Part]]:
        """Return the datasets that a request names, by purpose. Raises `NotFound` for a file that the owner has not."""
        uses = {use.file: (f"datasets.{index}.file", use) for index, use in enumerate(body.datasets)}
        _, training = uses.pop(body.training_file, ("", DatasetUse(file=body.training_file)))
        found = {"train": [await self._dataset("training_file", training, owner)]}
        if body.validation_file is not None:
            _, validation = uses.pop(body.validation_file, ("", DatasetUse(file=body.validation_file)))
            found["valid"] = [await self._dataset("validation_file", validation, owner)]
        found["train"] += [await self._dataset(param, use, owner) for param, use in uses.values()]
        return found

    async def _dataset(self, param: str, use: DatasetUse, owner: str) -> Part:
        row = await self.jobs.file(use.file, owner)
        if row is None:
            raise NotFound(f"There is no file '{use.file}', or it was deleted.", param=param)
        source = Source(self.files.path(row.id), row.filename, param, row.encoding)
        return Part(source, use.format, use.max_rows, use.weight)

    @property
    def tool_limits(self) -> Limits:
        """What a conversion may take."""
        return Limits(None, self.settings.tool_hours * 3600)

    @property
    def training_limits(self) -> Limits:
        """What a training may take."""
        wanted = self.settings.training_memory_mb
        memory = wanted * 2**20 if wanted else int(usable_memory() * DEFAULT_MEMORY_SHARE)
        return Limits(memory, self.settings.training_hours * 3600)


def workflow_id(job: Job) -> str:
    """Return the id of the workflow of the job's present run."""
    return job.id if job.run == 1 else f"{job.id}-{job.run}"


@dataclass
class Act:
    """What an act of a job adds to its closing event."""

    detail: str = ""
    data: dict[str, Any] | None = None


@asynccontextmanager
async def act(pipeline: Pipeline, job: Job, key: str, doing: str, done: str) -> AsyncIterator[Act]:
    """Tell that `doing` begins, and at the end that it is `done`, with the seconds it took."""
    await pipeline.events.tell(job.id, f"{key}-begin", doing)
    started, result = time.monotonic(), Act()
    yield result
    seconds = round(time.monotonic() - started, 1)
    message = f"{done} in {seconds:g} s{': ' if result.detail else ''}{result.detail}"
    await pipeline.events.tell(job.id, f"{key}-end", message, data={"seconds": seconds, **(result.data or {})})
