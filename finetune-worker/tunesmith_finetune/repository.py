"""All SQL of the finetune-worker: jobs, their events and checkpoints, files, and the models that jobs make.

Methods that a person's request leads to take the owner and name it in the query; those of a running job do not.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, delete, select, update
from sqlalchemy.exc import IntegrityError

from tunesmith_finetune.failures import Failure
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.ids import new_id
from tunesmith_shared.schemas.jobs import FINISHED, JobStatus
from tunesmith_shared.tables import Checkpoint, File, Interruption, Job, JobEvent, Model

Level = Literal["info", "warn", "error"]


class JobRepository:
    """Reads and writes what the database holds of fine-tuning."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- what people ask for, always with their owner

    async def add(self, job: Job) -> None:
        """Store a new job."""
        async with self._database.session() as session:
            session.add(job)

    async def owned(self, job_id: str, owner: str) -> Job | None:
        """Return a job of `owner`."""
        async with self._database.session() as session:
            found: Job | None = await session.scalar(select(Job).where(Job.id == job_id, Job.owner == owner))
            return found

    async def page(self, owner: str, after: str | None, limit: int) -> Sequence[Job]:
        """Return up to `limit` jobs of `owner`, newest first, from the one after `after` on."""
        query = select(Job).where(Job.owner == owner).order_by(Job.id.desc()).limit(limit)
        if after is not None:
            query = query.where(Job.id < after)
        async with self._database.session() as session:
            return (await session.scalars(query)).all()

    async def events(self, job_id: str, after: str | None, limit: int) -> Sequence[JobEvent]:
        """Return up to `limit` events of a job, newest first, from the one before `after` on."""
        query = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id.desc()).limit(limit)
        if after is not None:
            query = query.where(JobEvent.id < after)
        async with self._database.session() as session:
            return (await session.scalars(query)).all()

    async def events_since(self, job_id: str, last: str | None) -> Sequence[JobEvent]:
        """Return the events of a job that came after the event `last`, oldest first."""
        query = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
        if last is not None:
            query = query.where(JobEvent.id > last)
        async with self._database.session() as session:
            return (await session.scalars(query)).all()

    async def checkpoints(self, job_id: str, after: str | None, limit: int) -> Sequence[Checkpoint]:
        """Return up to `limit` checkpoints of a job, newest first."""
        query = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id.desc()).limit(limit)
        if after is not None:
            query = query.where(Checkpoint.id < after)
        async with self._database.session() as session:
            return (await session.scalars(query)).all()

    async def file(self, file_id: str, owner: str) -> File | None:
        """Return an upload of `owner`."""
        async with self._database.session() as session:
            found: File | None = await session.scalar(select(File).where(File.id == file_id, File.owner == owner))
            return found

    async def model(self, name: str) -> Model | None:
        """Return the row of a model that somebody made; `name` in its canonical spelling."""
        async with self._database.session() as session:
            return await session.get(Model, name)

    async def add_once(self, job: Job) -> Job:
        """Store a new job, or return the one that the same owner's request with the same idempotency key has made."""
        try:
            await self.add(job)
        except IntegrityError:
            made = select(Job).where(Job.owner == job.owner, Job.idempotency_key == job.idempotency_key)
            async with self._database.session() as session:
                return (await session.scalars(made)).one()
        return job

    async def made_with(self, owner: str, key: str) -> Job | None:
        """Return the job that a request of `owner` with this idempotency key has made."""
        made = select(Job).where(Job.owner == owner, Job.idempotency_key == key)
        async with self._database.session() as session:
            found: Job | None = await session.scalar(made)
            return found

    async def pause(self, job_id: str, owner: str) -> bool:
        """Set a job aside that has not ended; gives False, and changes nothing, when it has."""
        unfinished = (Job.id == job_id, Job.owner == owner, Job.status.not_in(FINISHED))
        values = {"status": "paused", "estimated_finish": None}
        async with self._database.session() as session:
            return (
                await session.execute(update(Job).where(*unfinished).values(values).returning(Job.id))
            ).first() is not None

    async def resume(self, job_id: str, owner: str) -> bool:
        """Let the next run of a paused or failed job begin; gives False, and changes nothing, for any other."""
        resumable = (Job.id == job_id, Job.owner == owner, Job.status.in_(("paused", "failed")))
        values = {
            "status": "queued", "run": Job.run + 1, "finished_at": None,
            "error_code": None, "error_message": None, "error_param": None,
        }  # fmt: skip
        async with self._database.session() as session:
            return (
                await session.execute(update(Job).where(*resumable).values(values).returning(Job.id))
            ).first() is not None

    async def name_taken(self, name: str, owner: str) -> bool:
        """Whether another owner's model, or an unfinished job of another owner, has the name `name`."""
        models: Select[Any] = select(Model.name).where(Model.name == name, Model.owner != owner)
        jobs: Select[Any] = select(Job.id).where(
            Job.model_name == name, Job.owner != owner, Job.status.not_in(FINISHED)
        )
        async with self._database.session() as session:
            return (await session.scalar(models)) is not None or (await session.scalar(jobs)) is not None

    # --- what a running job does

    async def get(self, job_id: str) -> Job:
        """Return a job that is known to exist."""
        async with self._database.session() as session:
            return await session.get_one(Job, job_id)

    async def unfinished(self) -> Sequence[Job]:
        """Return all jobs that have not ended."""
        async with self._database.session() as session:
            return (await session.scalars(select(Job).where(Job.status.not_in(FINISHED)))).all()

    async def change(self, job_id: str, **values: Any) -> None:
        """Set columns of a job that has not ended; a job that has ended stays as it is."""
        async with self._database.session() as session:
            await session.execute(update(Job).where(Job.id == job_id, Job.status.not_in(FINISHED)).values(**values))

    async def move(self, job_id: str, run: int, status: JobStatus) -> bool:
        """Set the status of a job at work; gives False, and changes nothing, when it was set aside or has ended."""
        async with self._database.session() as session:
            result = await session.execute(
                update(Job).where(*_current(job_id, run)).values(status=status).returning(Job.id)
            )
            return result.first() is not None

    async def is_current(self, job_id: str, run: int) -> bool:
        """Whether a run of a job is to go on: it was not set aside, and the job has not ended."""
        return await self._database.glance(select(Job.id).where(*_current(job_id, run)), {}) is not None

    async def forget_interruptions(self, workflow_id: str) -> None:
        """Count the deaths of the worker in a step from nought again: the step got further than ever before."""
        async with self._database.session() as session:
            await session.execute(delete(Interruption).where(Interruption.workflow_id == workflow_id))

    async def end(self, job_id: str, status: JobStatus, error: Failure | None = None) -> bool:
        """Let a job end as `status`; gives False, and changes nothing, when it has ended already."""
        values: dict[str, Any] = {"status": status, "finished_at": now(), "estimated_finish": None}
        if error is not None:
            values |= {"error_code": error["code"], "error_message": error["message"], "error_param": error["param"]}
        async with self._database.session() as session:
            result = await session.execute(
                update(Job).where(Job.id == job_id, Job.status.not_in(FINISHED)).values(**values).returning(Job.id)
            )
            return result.first() is not None

    async def tell(
        self, job_id: str, key: str, message: str, *, data: Mapping[str, Any] | None = None, level: Level = "info"
    ) -> None:
        """Add an event of type `message`, once for each `key`."""
        await self._event(job_id, key, level, "message", message, data or {})

    async def measure(self, job_id: str, key: str, message: str, data: Mapping[str, Any]) -> None:
        """Add an event of type `metrics`, once for each `key`."""
        await self._event(job_id, key, "info", "metrics", message, data)

    async def _event(
        self, job_id: str, key: str, level: Level, kind: str, message: str, data: Mapping[str, Any]
    ) -> None:
        event = JobEvent(
            id=new_id("ftevent"), job_id=job_id, key=key, level=level, type=kind,
            message=message, data=dict(data), created_at=now(),
        )  # fmt: skip
        try:
            async with self._database.session() as session:
                known = select(JobEvent.id).where(JobEvent.job_id == job_id, JobEvent.key == key)
                if await session.scalar(known) is None:
                    session.add(event)
        except IntegrityError:  # the same event, told by somebody else in the same moment
            return

    async def add_checkpoint(self, job_id: str, step: int, name: str, metrics: Mapping[str, Any]) -> None:
        """Store a checkpoint, or the newer metrics of one that is known."""
        async with self._database.session() as session:
            await session.execute(delete(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step_number == step))
            session.add(
                Checkpoint(
                    id=new_id("ftckpt"),
                    job_id=job_id,
                    fine_tuned_model_checkpoint=name,
                    step_number=step,
                    metrics=dict(metrics),
                    created_at=now(),
                )
            )

    async def last_checkpoint(self, job_id: str) -> Checkpoint | None:
        """Return the checkpoint with the highest step."""
        query = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step_number.desc()).limit(1)
        async with self._database.session() as session:
            found: Checkpoint | None = await session.scalar(query)
            return found

    async def add_result_files(self, job_id: str, files: Sequence[File]) -> None:
        """Store result files and name them in their job, both or neither."""
        async with self._database.session() as session:
            session.add_all(files)
            await session.execute(update(Job).where(Job.id == job_id).values(result_files=[file.id for file in files]))

    async def unfounded_models(self) -> Sequence[str]:
        """Return the names that jobs took which then ended without success, unless they had them from before."""
        taken = select(Model.name).join(Job, Job.id == Model.job_id).where(Job.status.in_(("failed", "cancelled")))
        async with self._database.session() as session:
            return (await session.scalars(taken)).all()

    async def disown_model(self, name: str) -> None:
        """Forget whose the model `name` is."""
        async with self._database.session() as session:
            await session.execute(delete(Model).where(Model.name == name))

    async def own_model(self, name: str, owner: str, base_model: str, job_id: str) -> bool:
        """Record who owns the model `name`; gives False when another owner's model has the name."""
        async with self._database.session() as session:
            row = await session.get(Model, name, with_for_update=True)
            if row is None:
                session.add(Model(name=name, owner=owner, base_model=base_model, job_id=job_id, created_at=now()))
                return True
            if row.owner != owner:
                return False
            row.base_model, row.job_id, row.created_at = base_model, job_id, now()
            return True


def _current(job_id: str, run: int) -> tuple[ColumnElement[bool], ...]:
    return (Job.id == job_id, Job.run == run, Job.status.not_in((*FINISHED, "paused")))
