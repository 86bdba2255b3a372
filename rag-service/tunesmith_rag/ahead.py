"""Let a stage of a pipeline work while the next one is busy, a bounded number of items ahead."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """The source has no more items, or failed."""

    error: Exception | None = None


async def ahead(source: AsyncGenerator[Item], count: int) -> AsyncGenerator[Item]:
    """Yield the items of `source`, which goes on working until `count` of them wait.

    An error of the source is raised here in its place. Closing this (`contextlib.aclosing`) closes the source, too.
    """
    waiting: asyncio.Queue[Item | _End] = asyncio.Queue(count)

    async def work() -> None:
        end = _End()
        try:
            async with aclosing(source):
                async for item in source:
                    await waiting.put(item)
        except Exception as error:
            end = _End(error)
        await waiting.put(end)

    task = asyncio.create_task(work())
    try:
        while not isinstance(item := await waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
