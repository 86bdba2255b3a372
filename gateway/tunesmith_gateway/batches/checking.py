"""The check of a batch's input before anything runs: its lines, and that the owner has the models they name."""

import asyncio
from pathlib import Path

from tunesmith_gateway.batches.lines import Checked, check
from tunesmith_gateway.batches.repository import BatchRepository
from tunesmith_gateway.batches.schemas import BatchError
from tunesmith_gateway.files import FileService
from tunesmith_gateway.model_names import identity
from tunesmith_gateway.models import ModelService
from tunesmith_shared.errors import NotFound
from tunesmith_shared.tables import Batch


class InputChecker:
    """Brings a batch from `validating` to `in_progress`, or to `failed` with every mistake and its line."""

    def __init__(
        self, repository: BatchRepository, files: FileService, models: ModelService, longest_line: int
    ) -> None:
        self._repository = repository
        self._files = files
        self._models = models
        self.longest_line = longest_line

    async def path(self, batch: Batch) -> Path:
        """Return where the batch's input is. Raises `NotFound` when it was deleted."""
        return self._files.path(await self._files.get(batch.owner, batch.input_file_id))

    async def check(self, batch: Batch) -> None:
        """Check, and move the batch on, unless it was cancelled meanwhile."""
        try:
            path = await self.path(batch)
            checked = await asyncio.to_thread(check, path, batch.endpoint, self.longest_line)
            errors = checked.errors or await self._unknown_models(batch.owner, checked)
        except (NotFound, FileNotFoundError):
            checked = Checked()
            errors = [BatchError(code="missing_file", message=f"The input file {batch.input_file_id} was deleted.")]
        if errors:
            shown = [error.model_dump() for error in errors]
            await self._repository.move(batch.id, ["validating"], "failed", errors=shown, total=checked.total)
        else:
            await self._repository.move(batch.id, ["validating"], "in_progress", total=checked.total)

    async def _unknown_models(self, owner: str, checked: Checked) -> list[BatchError]:
        there = {identity(model.name): model.name for model in await self._models.available(owner)}
        errors = []
        for name, line in checked.models.items():
            if identity(name) not in there:
                names = ", ".join(sorted(there.values())) or "none yet"
                message = f"There is no model '{name}'. The models there are: {names}."
                errors.append(BatchError(code="model_not_found", message=message, param="body.model", line=line))
        return errors
