"""The SQL of the models that jobs make: whose a name is."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, delete, select

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.schemas.jobs import FINISHED
from tunesmith_shared.tables import Job, Model


class ModelRepository:
    """Reads and writes whose a model's name is; names are in their canonical spelling."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def model(self, name: str) -> Model | None:
        """Return the row of a model that somebody made; `name` in its canonical spelling."""
        async with self._database.session() as session:
            return await session.get(Model, name)

    async def name_taken(self, name: str, owner: str) -> bool:
        """Whether another owner's model, or an unfinished job of another owner, has the name `name`."""
        models: Select[Any] = select(Model.name).where(Model.name == name, Model.owner != owner)
        jobs: Select[Any] = select(Job.id).where(
            Job.model_name == name, Job.owner != owner, Job.status.not_in(FINISHED)
        )
        async with self._database.session() as session:
            return (await session.scalar(models)) is not None or (await session.scalar(jobs)) is not None

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

    async def disown_model(self, name: str) -> None:
        """Forget whose the model `name` is."""
        async with self._database.session() as session:
            await session.execute(delete(Model).where(Model.name == name))

    async def unfounded_models(self) -> Sequence[str]:
        """Return the names that jobs took which then ended without success, unless they had them from before."""
        taken = select(Model.name).join(Job, Job.id == Model.job_id).where(Job.status.in_(("failed", "cancelled")))
        async with self._database.session() as session:
            return (await session.scalars(taken)).all()
