"""All SQL of batches. A batch is worked on by the gateway that holds its lease; every change of state names the state
that it starts from, so that a cancellation and the runner cannot overwrite each other.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.tables import Batch, BatchLine, File

Json = dict[str, Any]

ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
LEASE_SECONDS = 30


class BatchRepository:
    """Reads and writes batches and their finished lines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- what people ask for, always with their owner

    async def add(self, batch: Batch) -> None:
        """Store a new batch."""
        async with self._database.session() as session:
            session.add(batch)

    async def owned(self, owner: str, batch_id: str) -> Batch | None:
        """Return a batch of `owner`."""
        async with self._database.session() as session:
            found: Batch | None = await session.scalar(select(Batch).where(Batch.id == batch_id, Batch.owner == owner))
            return found

    async def page(self, owner: str, after: str | None, limit: int) -> Sequence[Batch]:
        """Return up to `limit` batches of `owner`, newest first, beginning after the batch `after`."""
        query = select(Batch).where(Batch.owner == owner).order_by(Batch.id.desc()).limit(limit)
        if after is not None:
            query = query.where(Batch.id < after)
        async with self._database.session() as session:
            return (await session.scalars(query)).all()

    # --- the work, in the order of a batch's life

    async def claim(self, runner: str, busy: Collection[str]) -> list[str]:
        """Take the lease of every unfinished batch that nobody holds, or that `runner` held before it stopped."""
        free = or_(Batch.runner.is_(None), Batch.runner == runner, Batch.lease_until < now())
        waiting = (Batch.status.in_(ACTIVE), free, Batch.id.not_in(busy))
        async with self._database.session() as session:
            found = await session.scalars(select(Batch.id).where(*waiting).order_by(Batch.id))
            claimed = []
            for batch_id in found.all():
                held = {"runner": runner, "lease_until": now() + LEASE_SECONDS, "attempts": Batch.attempts + 1}
                taken = await session.execute(update(Batch).where(Batch.id == batch_id, free).values(held))
                if _changed(taken):
                    claimed.append(batch_id)
            return claimed

    async def renew(self, runner: str, busy: Collection[str]) -> set[str]:
        """Keep the leases of the batches in work, and return those of them that are to be cancelled."""
        mine = (Batch.id.in_(busy), Batch.runner == runner)
        async with self._database.session() as session:
            await session.execute(update(Batch).where(*mine).values(lease_until=now() + LEASE_SECONDS))
            return set(await session.scalars(select(Batch.id).where(*mine, Batch.status == "cancelling")))

    async def release(self, runner: str) -> None:
        """Give back every lease, so that any gateway can go on at once. An orderly stop is no failed attempt."""
        async with self._database.session() as session:
            mine = update(Batch).where(Batch.runner == runner, Batch.status.in_(ACTIVE))
            await session.execute(mine.values(runner=None, lease_until=None, attempts=0))

    async def get(self, batch_id: str) -> Batch:
        """Return a batch that is known to be there."""
        async with self._database.session() as session:
            return (await session.scalars(select(Batch).where(Batch.id == batch_id))).one()

    async def move(self, batch_id: str, sources: Sequence[str], target: str, **changes: Any) -> bool:
        """Bring a batch from one of the states `sources` to `target`; say whether it was in one of them."""
        values = {"status": target, f"{target}_at": now(), **changes}
        moved = update(Batch).where(Batch.id == batch_id, Batch.status.in_(sources)).values(values)
        async with self._database.session() as session:
            return _changed(await session.execute(moved))

    async def finished_lines(self, batch_id: str) -> set[int]:
        """Return the numbers of the lines that have their result."""
        async with self._database.session() as session:
            return set(await session.scalars(select(BatchLine.number).where(BatchLine.batch_id == batch_id)))

    async def finish_line(self, batch_id: str, number: int, *, succeeded: bool, result: str) -> None:
        """Keep a line's result and count it, both or neither; a line that has one keeps it."""
        count = {"completed": Batch.completed + 1} if succeeded else {"failed": Batch.failed + 1}
        line = BatchLine(batch_id=batch_id, number=number, succeeded=succeeded, result=result)
        try:
            async with self._database.session() as session:
                session.add(line)
                await session.flush()
                await session.execute(update(Batch).where(Batch.id == batch_id).values({**count, "attempts": 0}))
        except IntegrityError:  # a gateway whose lease ran out was faster with this line
            return

    async def results(self, batch_id: str, *, succeeded: bool, after: int, limit: int) -> Sequence[BatchLine]:
        """Return up to `limit` results in the order of their lines, beginning after the line `after`."""
        mine = (BatchLine.batch_id == batch_id, BatchLine.succeeded == succeeded, BatchLine.number > after)
        async with self._database.session() as session:
            return (await session.scalars(select(BatchLine).where(*mine).order_by(BatchLine.number).limit(limit))).all()

    async def end(
        self, batch: Batch, target: str, output: File | None, errors: File | None, reasons: list[Json]
    ) -> bool:
        """End a batch whose results are in files: the files, its state and the lines change together."""
        values = {
            "status": target,
            f"{target}_at": now(),
            "output_file_id": output.id if output else None,
            "error_file_id": errors.id if errors else None,
            "errors": reasons,
            "runner": None,
        }
        async with self._database.session() as session:
            ended = update(Batch).where(Batch.id == batch.id, Batch.status == batch.status).values(values)
            if not _changed(await session.execute(ended)):
                return False
            session.add_all(file for file in (output, errors) if file is not None)
            await session.execute(delete(BatchLine).where(BatchLine.batch_id == batch.id))
            return True


def _changed(result: Any) -> bool:
    return isinstance(result, CursorResult) and result.rowcount == 1
