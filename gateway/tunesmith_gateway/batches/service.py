"""Batches as people ask for them: make, show, list, cancel."""

from collections.abc import Sequence

from tunesmith_gateway.batches.repository import ACTIVE, BatchRepository
from tunesmith_gateway.batches.runner import BatchRunner
from tunesmith_gateway.batches.schemas import BatchCreate
from tunesmith_gateway.files import FileService
from tunesmith_shared.clock import now
from tunesmith_shared.errors import BadRequest, Conflict, NotFound
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import Batch


class BatchService:
    """An owner's batches; the runner does the work."""

    def __init__(self, repository: BatchRepository, files: FileService, runner: BatchRunner) -> None:
        self._repository = repository
        self._files = files
        self._runner = runner

    async def create(self, owner: str, key_id: str, wanted: BatchCreate) -> Batch:
        """Store a batch, to be checked and run under the limits of the key.

        Raises `NotFound` and `BadRequest` for an unusable input file.
        """
        file = await self._files.get(owner, wanted.input_file_id)
        if file.purpose != "batch":
            raise BadRequest(
                f"The file {file.id} was uploaded for '{file.purpose}'. Upload it with the purpose 'batch'.",
                param="input_file_id",
            )
        batch = Batch(
            id=new_id("batch"),
            owner=owner,
            key_id=key_id,
            endpoint=wanted.endpoint,
            input_file_id=file.id,
            completion_window=wanted.completion_window,
            status="validating",
            errors=[],
            batch_metadata=wanted.metadata or {},
            total=0,
            completed=0,
            failed=0,
            attempts=0,
            created_at=now(),
        )
        await self._repository.add(batch)
        self._runner.wake()
        return batch

    async def get(self, owner: str, batch_id: str) -> Batch:
        """Return a batch. Raises `NotFound`."""
        batch = await self._repository.owned(owner, batch_id)
        if batch is None:
            raise NotFound(f"There is no batch '{batch_id}'.", param="batch_id")
        return batch

    async def page(self, owner: str, after: str | None, limit: int) -> Sequence[Batch]:
        """Return up to `limit` batches, newest first, beginning after the batch `after`."""
        return await self._repository.page(owner, after, limit)

    async def cancel(self, owner: str, batch_id: str) -> Batch:
        """Stop a batch's lines; what is finished goes to its files. Raises `NotFound`, and `Conflict` when it ended.

        One whose lines are all answered is left to end by itself.
        """
        batch = await self.get(owner, batch_id)
        if batch.status not in ACTIVE:
            raise Conflict(f"The batch is {batch.status} already.", param="batch_id")
        if await self._repository.move(batch_id, ["validating", "in_progress"], "cancelling"):
            self._runner.stop_lines(batch_id)
            self._runner.wake()
        return await self.get(owner, batch_id)
