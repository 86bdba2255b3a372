"""What people may do with fine-tuning jobs: create, look at, cancel. What is cheap to check is checked first."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatch
from typing import TypeVar

from tunesmith_finetune import hyperparameters, workflow
from tunesmith_finetune.base_models import BaseModel, unknown_base_model
from tunesmith_finetune.datasets.formats import read_examples
from tunesmith_finetune.datasets.mixture import Part
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.preview import build_preview
from tunesmith_finetune.steps.dataset import method_with
from tunesmith_shared.clock import now
from tunesmith_shared.errors import BadRequest, Conflict, NotFound
from tunesmith_shared.ids import new_id
from tunesmith_shared.names import CANDIDATES, ModelName
from tunesmith_shared.schemas.jobs import FINISHED, HubPush, JobCreate
from tunesmith_shared.schemas.previews import JobPreview
from tunesmith_shared.tables import Checkpoint, Job, JobEvent

EVENT_POLL_SECONDS = 0.3
MOST_GENERATIONS = 8
Row = TypeVar("Row")


class JobService:
    """Fine-tuning jobs of owners."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._jobs = pipeline.jobs
        self._events = pipeline.events
        self._models = pipeline.models

    async def create(self, owner: str, body: JobCreate, key: str | None = None) -> Job:
        """Check `body` and start a job; with a `key` that has started one before, give that.

        Raises `NotFound`, `BadRequest`, or `Conflict`, also when the key came with another body.
        """
        if key is not None and (made := await self._jobs.made_with(owner, key)) is not None:
            return _same_request(made, body)
        wanted = hyperparameters.requested(body)
        base = await self._base_of(body.model, owner)
        self._check_push(body.push)
        hyperparameters.choose(wanted, body.method.type, rows=1, longest=1, context_length=base.context_length)
        job_id = new_id("ftjob")
        name = await self._model_name(body, base, job_id, owner)
        for parts in (await self._pipeline.datasets_of(body, owner)).values():
            for part in parts:
                limit = self._pipeline.settings.quick_check_bytes
                await asyncio.to_thread(_check_quickly, part, body.method.type, limit)
        job = Job(
            id=job_id, owner=owner, model=body.model, model_name=name, fine_tuned_model=None, status="queued",
            training_file=body.training_file, validation_file=body.validation_file,
            seed=body.seed if body.seed is not None else secrets.randbelow(2**31),
            method=method_with(body.method.type, wanted.model_dump()),
            request={"body": body.model_dump(mode="json"), "base_model": base.reference},
            job_metadata=body.metadata or {}, result_files=[], trained_tokens=None, error_code=None,
            error_message=None, error_param=None, created_at=now(), finished_at=None, estimated_finish=None, run=1,
            idempotency_key=key,
        )  # fmt: skip
        if (made := await self._jobs.add_once(job)) is not job:
            return _same_request(made, body)
        await self._events.tell(job.id, "created", f"Created fine-tuning job: {job.id}")
        await workflow.enqueue(job)
        return job

    async def preview(self, owner: str, body: JobCreate) -> JobPreview:
        """Return what the job that `body` asks for would be; nothing starts. Raises what `create` raises."""
        return await build_preview(self._pipeline, owner, body, await self._base_of(body.model, owner))

    async def base_models(self) -> Sequence[BaseModel]:
        """Return what training can start from without fetching anything."""
        return await asyncio.to_thread(self._pipeline.bases.known)

    async def get(self, owner: str, job_id: str) -> Job:
        """Return a job. Raises `NotFound`."""
        job = await self._jobs.owned(job_id, owner)
        if job is None:
            raise NotFound(f"There is no fine-tuning job '{job_id}'.", param="fine_tuning_job_id")
        return job

    async def list(self, owner: str, after: str | None, limit: int) -> tuple[Sequence[Job], bool]:
        """Return a page of jobs, newest first, and whether there are more."""
        return _cut(await self._jobs.page(owner, after, limit + 1), limit)

    async def events(self, owner: str, job_id: str, after: str | None, limit: int) -> tuple[Sequence[JobEvent], bool]:
        """Return a page of a job's events, newest first, and whether there are more. Raises `NotFound`."""
        await self.get(owner, job_id)
        return _cut(await self._events.events(job_id, after, limit + 1), limit)

    async def checkpoints(
        self, owner: str, job_id: str, after: str | None, limit: int
    ) -> tuple[Sequence[Checkpoint], bool]:
        """Return a page of a job's checkpoints, newest first, and whether there are more. Raises `NotFound`."""
        await self.get(owner, job_id)
        return _cut(await self._events.checkpoints(job_id, after, limit + 1), limit)

    async def follow(self, owner: str, job_id: str) -> AsyncIterator[JobEvent]:
        """Yield a job's events from the first on, as they happen, until the job has ended and all are told."""
        last: str | None = None
        while True:
            job = await self.get(owner, job_id)
            for event in await self._events.events_since(job_id, last):
                last = event.id
                yield event
            if job.status in FINISHED:
                return
            await asyncio.sleep(EVENT_POLL_SECONDS)

    async def cancel(self, owner: str, job_id: str) -> Job:
        """Let a job end as cancelled, and stop what it runs. Raises `NotFound`, or `Conflict` when it has ended."""
        job = await self.get(owner, job_id)
        if not await self._jobs.end(job_id, "cancelled"):
            raise Conflict(f"The job '{job_id}' has ended already ({job.status}).", code="job_ended")
        await workflow.cancel(await self.get(owner, job_id))
        await self._events.tell(job_id, "cancelled", "The job was cancelled")
        return await self.get(owner, job_id)

    async def pause(self, owner: str, job_id: str) -> Job:
        """Set a job aside: a training saves a checkpoint and ends, and the next job in the queue has its turn.

        Pausing a paused job changes nothing. Raises `NotFound`, or `Conflict` when it has ended.
        """
        job = await self.get(owner, job_id)
        if not await self._jobs.pause(job_id, owner):
            raise Conflict(f"The job '{job_id}' has ended already ({job.status}).", code="job_ended")
        await self._events.tell(job_id, f"paused-{job.run}", "The job was paused")
        return await self.get(owner, job_id)

    async def resume(self, owner: str, job_id: str) -> Job:
        """Let a paused job go on from its last checkpoint, or a failed one from the step that failed.

        Resuming a job that is under way changes nothing. Raises `NotFound`, or `Conflict` when it has ended otherwise.
        """
        if not await self._jobs.resume(job_id, owner):
            job = await self.get(owner, job_id)
            if job.status in FINISHED:
                raise Conflict(f"The job '{job_id}' has ended already ({job.status}).", code="job_ended")
            return job
        job = await self.get(owner, job_id)
        await self._events.tell(job_id, f"resumed-{job.run}", "The job was resumed")
        await workflow.enqueue(job)
        return job

    async def _base_of(self, model: str, owner: str) -> BaseModel:
        """Return the base of `model`: itself, or what a model of `owner` was made from, over generations."""
        name = model
        for _ in range(MOST_GENERATIONS):
            base = await self._pipeline.bases.resolve(name)
            if base is not None:
                return base
            row = await self._models.model(canonical(name))
            if row is None or row.owner != owner:
                break
            name = row.base_model
        raise unknown_base_model(model, await asyncio.to_thread(self._pipeline.bases.known))

    def _check_push(self, push: HubPush | None) -> None:
        allowed = [pattern.strip().lower() for pattern in self._pipeline.settings.hub_push.split(",")]
        if push is not None and not any(fnmatch(push.repository.lower(), pattern) for pattern in allowed):
            raise BadRequest(
                f"Models may not be sent to '{push.repository}': TUNESMITH_HUB_PUSH does not name it.",
                param="push.repository",
            )

    async def _model_name(self, body: JobCreate, base: BaseModel, job_id: str, owner: str) -> str:
        ending = re.sub(r"[^a-z0-9._-]+", "-", (body.suffix or job_id[-8:]).lower()).strip("-.") or job_id[-8:]
        try:
            parsed = ModelName.parse(body.model_name or f"{base.slug.rpartition('--')[2]}-{ending}")
        except BadRequest as error:
            raise BadRequest(
                f"'{body.model_name}' cannot be a model's name: letters, digits, '.', '-' and '_', optionally ':tag'.",
                param="model_name",
            ) from error
        name = parsed.display.lower()
        if parsed.namespace.lower() == CANDIDATES:
            raise BadRequest(f"The namespace '{CANDIDATES}' is the worker's own.", param="model_name")
        if await asyncio.to_thread(self._pipeline.bases.find, name) is not None:
            raise Conflict(f"'{name}' is a base model's name; choose another.", param="model_name", code="name_taken")
        own = await self._models.model(name)
        taken = own is None and await self._pipeline.publisher.is_served(ModelName.parse(name))
        if taken or await self._models.name_taken(name, owner):
            raise Conflict(f"There is a model '{name}' already; choose another.", param="model_name", code="name_taken")
        return name


def _same_request(job: Job, body: JobCreate) -> Job:
    if job.request["body"] != body.model_dump(mode="json"):
        raise Conflict(
            "This Idempotency-Key came with another request before. Send a new key with a new request.",
            param="Idempotency-Key",
            code="idempotency_key_reused",
        )
    return job


def canonical(name: str) -> str:
    """Return a model name as the table of models spells it. Raises `BadRequest` for what cannot be a name."""
    return ModelName.parse(name).display.lower()


def _check_quickly(part: Part, method: str, limit: int) -> None:
    """Check a small dataset whole, and of a large one the columns; the rest is checked by the job's first step."""
    examples = read_examples(part.source, method, part.format)
    if part.source.path.stat().st_size > limit:
        next(examples, None)
        return
    for _ in examples:
        pass


def _cut(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], bool]:
    return rows[:limit], len(rows) > limit
