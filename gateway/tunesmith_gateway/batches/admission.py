"""The limits of a batch's key: its lines count against them as requests do, and wait where those are refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tunesmith_gateway.keys import KeyService
from tunesmith_gateway.limits import GenerationQueue, Limiter
from tunesmith_gateway.usage import spending
from tunesmith_shared.errors import TooManyRequests, TunesmithError, Unavailable
from tunesmith_shared.tables import Batch

Result = TypeVar("Result")


class Admission:
    """Lets lines in as their key and the gateway have room for them, without an end to the waiting."""

    def __init__(self, keys: KeyService, limiter: Limiter, queue: GenerationQueue) -> None:
        self._keys = keys
        self._limiter = limiter
        self._queue = queue

    @asynccontextmanager
    async def place(self, batch: Batch) -> AsyncIterator[None]:
        """Hold a place for one line: a request and a generation of the batch's key, and one among all that run."""
        key = batch.key_id or batch.owner  # batches of before keys were noted count for their owner
        own = await self._keys.limits(batch.key_id)
        await _when_allowed(lambda: self._limiter.count_request(key, own))
        spent = await _when_allowed(lambda: self._limiter.begin(key, own))
        try:
            await _when_allowed(self._queue.refuse_when_full)
            await self._queue.enter()
            spending.set(spent)
            try:
                yield
            finally:
                self._queue.leave()
        finally:
            self._limiter.end(key, spent)


async def _when_allowed(attempt: Callable[[], Result]) -> Result:
    while True:
        try:
            return attempt()
        except (TooManyRequests, Unavailable) as refusal:
            await asyncio.sleep(_seconds(refusal))


def _seconds(refusal: TunesmithError) -> int:
    return refusal.retry_after or 1
