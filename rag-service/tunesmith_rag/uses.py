"""Notes when vector stores were last used, on which their expiry stands, without a write on the way of each search."""

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from tunesmith_rag.repository import Stores
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.tables import VectorStore

_logger = logging.getLogger(__name__)

NOTED_EVERY = 60
"""Seconds between two notes for one store. Stores expire after days, so a search in between changes nothing."""


class Uses:
    """Writes after the search that it was; a note that fails is written with the next search."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def note(self, store: VectorStore) -> None:
        """Have the use of a store, as it was just read, noted soon, unless that was done a moment ago."""
        if now() - store.last_active_at >= NOTED_EVERY and store.id not in self._under_way:
            self._under_way[store.id] = asyncio.create_task(self._write(store.id, now()))

    async def close(self) -> None:
        """Wait until everything is noted."""
        await asyncio.gather(*self._under_way.values())

    async def _write(self, store_id: str, time: int) -> None:
        try:
            async with self._database.session() as session:
                await Stores(session).used(store_id, time)
        except (SQLAlchemyError, OSError):  # the database may be away, or another process may be writing for long
            _logger.warning("the use of %s could not be noted", store_id, exc_info=True)
        finally:
            del self._under_way[store_id]
