"""What the workflows of this process work with: one a process, since DBOS finds workflows as functions of modules."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunesmith_rag.resources import Resources


class _Runtime:
    def __init__(self) -> None:
        self.resources: Resources | None = None
        self.tasks: set[asyncio.Task[Any]] = set()


_runtime = _Runtime()


def use(resources: Resources) -> None:
    """Let workflows work with `resources`. Call before DBOS is launched: it recovers workflows at once."""
    _runtime.resources = resources


def resources() -> Resources:
    """Return what `use` was given."""
    if _runtime.resources is None:
        raise RuntimeError("runtime.use() comes before any workflow")
    return _runtime.resources


@contextmanager
def tracked() -> Iterator[None]:
    """Note the workflow that runs in this block, so that `interrupt` ends it."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - workflows are coroutines
    _runtime.tasks.add(task)
    try:
        yield
    finally:
        _runtime.tasks.discard(task)


async def interrupt() -> None:
    """Stop workflows where they are, before what they use is closed. DBOS goes on with them at the next start."""
    tasks = list(_runtime.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
