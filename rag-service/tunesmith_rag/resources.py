"""What the routes, the service and the workflows of one process share. Opened and closed by `app.py`."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith_rag.embed import Embedder
from tunesmith_rag.fill import Tools
from tunesmith_rag.fingerprint import Fingerprints
from tunesmith_rag.legs import Legs
from tunesmith_rag.parsers import Parsers
from tunesmith_rag.settings import RagSettings
from tunesmith_rag.uses import Uses
from tunesmith_rag.workfiles import WorkFolder
from tunesmith_shared.database import Database
from tunesmith_shared.files import FileStore


class Endings:
    """Wakes those who wait for a document to be completed or to fail in this process."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def announce(self, document_id: str) -> None:
        """Say that nothing more happens to this document."""
        if event := self._events.pop(document_id, None):
            event.set()

    async def wait(self, document_id: str, seconds: float) -> None:
        """Wait for the announcement, `seconds` at the most."""
        event = self._events.setdefault(document_id, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


@dataclass(frozen=True)
class Resources:
    """Everything that is opened once a process."""

    settings: RagSettings
    database: Database
    files: FileStore
    index: Legs
    embedder: Embedder
    parsers: Parsers
    fingerprints: Fingerprints
    uses: Uses
    endings: Endings = field(default_factory=Endings)

    def work_folder(self, document_id: str) -> WorkFolder:
        """Return where the ingestion of a document keeps its files."""
        return WorkFolder(self._work_root, document_id)

    def filling(self, check_dimension: Callable[[int], Awaitable[None]]) -> Tools:
        """Return what bringing a document into an index works with."""
        settings = self.settings
        patience = min(settings.embedding_place_seconds, settings.embedding_wait_seconds)
        return Tools(self.embedder, self.index, self.parsers, settings.embedding_batch, patience, check_dimension)

    @property
    def _work_root(self) -> Path:
        return self.settings.data_dir / "ingestion"
