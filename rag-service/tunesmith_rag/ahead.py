"""Let a stage of a pipeline work while the next one is busy, a bounded number of items ahead."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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


async def overlapping(
    source: AsyncGenerator[Item], call: Callable[[Item], Awaitable[Result]], count: int
) -> AsyncGenerator[tuple[Item, Result]]:
    """Yield the items of `source` in order, each with what `call` makes of it; `count` calls wait behind the one that
    is yielded next, and one more is begun.

    An error of the source or of a call is raised here in its place. Closing this cancels the calls under way.
    """
    calls: set[asyncio.Future[Result]] = set()

    async def begun() -> AsyncGenerator[tuple[Item, asyncio.Future[Result]]]:
        async with aclosing(source):
            async for item in source:
                result = asyncio.ensure_future(call(item))
                calls.add(result)
                yield item, result

    try:
        async with aclosing(ahead(begun(), count)) as items:
            async for item, result in items:
                yield item, await result
                calls.discard(result)
    finally:
        for result in calls:
            result.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
