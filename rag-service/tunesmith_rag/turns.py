"""Threads, one a processor, that take the next item themselves instead of being handed it by the event loop.

The loop is one thread more: beside a busy pipeline it gets a processor, and the interpreter, milliseconds later, and
the thread that waits for its next item does nothing meanwhile.
"""

import itertools
from asyncio import gather, wrap_future
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import PriorityQueue
from typing import TypeVar

Item = TypeVar("Item")

_Place = tuple[bool, int]
"""Whether a call has several items, and its number: the least comes first."""


class Turns:
    """Works on items in `threads` threads. A call of one item, as a question is, comes before the rest of longer ones,
    so that it waits for what is being worked on and no more; otherwise what was asked for first is done first.
    """

    def __init__(self, threads: int) -> None:
        self._count = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="turns")
        self._waiting: PriorityQueue[tuple[_Place, int, Callable[[], None]]] = PriorityQueue()
        self._numbers = itertools.count()

    async def each(self, work: Callable[[Item], None], items: Sequence[Item]) -> None:
        """Call `work` with every item, begun in their order, as many at once as there are threads.

        Raises what `work` raises. Then, and when it is cancelled, no further item is begun.
        """
        place = (len(items) > 1, next(self._numbers))
        remaining = iter([partial(work, item) for item in items])

        def turn(ended: Future[None]) -> None:
            try:
                if (call := next(remaining, None)) is None:
                    ended.set_result(None)
                    return
                call()
                self._wait(place, partial(turn, ended))
            except Exception as error:
                ended.set_exception(error)

        ends = [_running() for _ in range(min(self._count, len(items)))]
        for end in ends:
            self._wait(place, partial(turn, end))
        try:
            await gather(*map(wrap_future, ends))
        finally:
            list(remaining)  # nothing is left to begin

    def close(self) -> None:
        """Wait for the items under way."""
        self._threads.shutdown(wait=True)

    def _wait(self, place: _Place, turn: Callable[[], None]) -> None:
        """Let `turn` wait until it is the first and a thread is free. The threads' own queue only counts."""
        self._waiting.put((place, next(self._numbers), turn))
        self._threads.submit(self._next)

    def _next(self) -> None:
        self._waiting.get_nowait()[-1]()


def _running() -> Future[None]:
    """Return a future that cancelling who waits for it does not cancel: a thread will give it a result."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future
