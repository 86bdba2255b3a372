"""Stopping work for a client that has left."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

Result = TypeVar("Result")

_MOMENT_SECONDS = 0.02  # what is ready by then is not worth a second task


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work`, and cancel it when the client disconnects. Raises `ClientDisconnect` then.

    The request's body must have been read before. The work is done in the calling task, with one beside it that
    watches when it takes longer than a moment.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    left = False
    watch: asyncio.Task[None] | None = None

    def stop(watch: asyncio.Task[None]) -> None:
        nonlocal left
        left = not watch.cancelled() and watch.exception() is None
        if left:
            task.cancel()

    def begin() -> None:
        nonlocal watch
        watch = asyncio.ensure_future(_disconnected(receive))
        watch.add_done_callback(stop)

    moment = asyncio.get_running_loop().call_later(_MOMENT_SECONDS, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        moment.cancel()
        if watch is not None:
            watch.remove_done_callback(stop)
            watch.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
