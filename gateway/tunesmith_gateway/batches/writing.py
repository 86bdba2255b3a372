"""The end of a batch: its results, which are in the database line by line, become files."""

from collections.abc import AsyncIterator
from typing import Any

from tunesmith_gateway.batches.repository import BatchRepository
from tunesmith_shared.clock import now
from tunesmith_shared.files import FileStore
from tunesmith_shared.tables import Batch, File

Json = dict[str, Any]

_AT_ONCE = 200
_ENDS = {"finalizing": "completed", "cancelling": "cancelled", "in_progress": "failed"}


class ResultWriter:
    """Writes the output and the error file of a batch, in the order of the input's lines, and ends it."""

    def __init__(self, repository: BatchRepository, store: FileStore) -> None:
        self._repository = repository
        self._store = store

    async def write(self, batch: Batch, failed_because: list[Json] | None = None) -> None:
        """Write what there is and end the batch: completed, cancelled, or failed when it was still in work.

        Raises `StorageFull` when the disk is full; the results stay in the database then and the batch as it was.
        """
        output = await self._file(batch, "output", batch.completed)
        errors = await self._file(batch, "error", batch.failed)
        if not await self._repository.end(batch, _ENDS[batch.status], output, errors, failed_because or []):
            for file in (output, errors):
                if file is not None:  # the batch changed meanwhile: it is looked at again
                    self._store.delete(file.id)

    async def _file(self, batch: Batch, name: str, count: int) -> File | None:
        if not count:
            return None
        stored = await self._store.save(self._lines(batch.id, succeeded=name == "output"))
        return File(
            id=stored.id,
            owner=batch.owner,
            filename=f"{batch.id}_{name}.jsonl",
            purpose="batch_output",
            bytes=stored.bytes,
            sha256=stored.sha256,
            created_at=now(),
        )

    async def _lines(self, batch_id: str, *, succeeded: bool) -> AsyncIterator[bytes]:
        last = 0
        while rows := await self._repository.results(batch_id, succeeded=succeeded, after=last, limit=_AT_ONCE):
            yield "".join(f"{row.result}\n" for row in rows).encode()
            last = rows[-1].number
