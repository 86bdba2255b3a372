"""The SQL of what jobs tell: events, and checkpoints with their metrics."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import Checkpoint, JobEvent

Level = Literal["info", "warn", "error"]


class EventRepository:
    """Reads and writes the events and checkpoints of jobs; whose they are, the job's owner is asked before."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    async def checkpoints(self, job_id: str, after: str | None, limit: int) -> Sequence[Checkpoint]:
        """Return up to `limit` checkpoints of a job, newest first."""
        query = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id.desc()).limit(limit)
        if after is not None:
            query = query.where(Checkpoint.id < after)
        async with self._database.session() as session:
            return (await session.scalars(query)).all()

    async def last_checkpoint(self, job_id: str) -> Checkpoint | None:
        """Return the checkpoint with the highest step."""
        query = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step_number.desc()).limit(1)
        async with self._database.session() as session:
            found: Checkpoint | None = await session.scalar(query)
            return found

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
