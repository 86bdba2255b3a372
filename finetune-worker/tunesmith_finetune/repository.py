"""The SQL of jobs and their files. `event_repository.py` has that of events, `model_repository.py` that of models.

Methods that a person's request leads to take the owner and name it in the query; those of a running job do not.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.exc import IntegrityError

from tunesmith_finetune.failures import Failure
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.schemas.jobs import FINISHED, JobStatus
from tunesmith_shared.tables import File, Interruption, Job


class JobRepository:
    """Reads and writes jobs, the files they are made from and those they leave."""

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

    async def file(self, file_id: str, owner: str) -> File | None:
        """Return an upload of `owner`."""
        async with self._database.session() as session:
            found: File | None = await session.scalar(select(File).where(File.id == file_id, File.owner == owner))
            return found

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

    async def add_result_files(self, job_id: str, files: Sequence[File]) -> None:
        """Store result files and name them in their job, both or neither."""
        async with self._database.session() as session:
            session.add_all(files)
            await session.execute(update(Job).where(Job.id == job_id).values(result_files=[file.id for file in files]))


def _current(job_id: str, run: int) -> tuple[ColumnElement[bool], ...]:
    return (Job.id == job_id, Job.run == run, Job.status.not_in((*FINISHED, "paused")))
