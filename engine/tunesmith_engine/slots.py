"""Who generates at once: a model's slots, lent in the order in which they are asked for."""

import asyncio
from collections import deque


class Slots:
    """So many generations at once; who comes later waits.

    llama.cpp has a queue of its own, in which a request for several choices that share a prompt waits until so many
    slots are free together; under load that is never. Here whoever waits first gets what becomes free.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[tuple[int, asyncio.Future[Lease]]] = deque()

    async def take(self, most: int = 1) -> "Lease":
        """Take up to ``most`` slots: as many as are free, after waiting for the first."""
        if self._free and not self._waiting:
            return self._lend(most)
        turn: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting.append((most, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                turn.result().close()
            raise

    def give(self, count: int) -> None:
        """Take slots back, and lend them to those who wait."""
        self._free += count
        while self._free and self._waiting:
            most, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._lend(most))

    def _lend(self, most: int) -> "Lease":
        count = min(most, self._free)
        self._free -= count
        return Lease(self, count)


class Lease:
    """Slots that somebody has; ``close`` gives back those that were not given back one by one."""

    def __init__(self, slots: Slots, count: int) -> None:
        self._slots = slots
        self.count = count

    def give_one(self) -> None:
        """Give one slot back."""
        self.count -= 1
        self._slots.give(1)

    def close(self) -> None:
        """Give all back that are left."""
        count, self.count = self.count, 0
        self._slots.give(count)
