"""The place that a generation has: under the limits of its key, and among all that run."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Annotated

from fastapi import Depends, Request

from tunesmith_gateway.dependencies import Services, permitted
from tunesmith_gateway.disconnect import while_connected
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.measures import Measure
from tunesmith_gateway.usage import spending

_CHAT = frozenset(("chat", "admin"))
_HELD = "tunesmith.held"


class Place:
    """The place of the generation that `request` asks for: a block has it from its beginning to its end."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._services: Services = request.app.state.services
        self._caller = permitted(request, _CHAT)
        self._measure = Measure()

    async def __aenter__(self) -> Caller:
        """Wait for the place and give the caller. Raises `TooManyRequests`, `Unavailable`, `ClientDisconnect`."""
        limiter, queue = self._services.limiter, self._services.queue
        queue.refuse_when_full()  # before a body is read that nobody has room for
        self._spent = limiter.begin(self._caller.key_id, self._caller.limits)
        spending.set(self._spent)
        try:
            if not queue.enter_at_once():
                await self._request.body()
                await while_connected(self._request.receive, queue.enter())
        except BaseException:
            limiter.end(self._caller.key_id, self._spent)
            raise
        self._measure.begins()
        return self._caller

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place back, and what the handler held."""
        try:
            self._measure.ended(self._request.scope, self._spent)
            self._services.queue.leave()
            if _HELD in self._request.scope:
                await self._request.scope[_HELD].aclose()
        finally:
            self._services.limiter.end(self._caller.key_id, self._spent)


def held(request: Request) -> AsyncExitStack:
    """Return what the handler of a generation holds until its answer is sent, also when that is a stream."""
    stack: AsyncExitStack = request.scope.setdefault(_HELD, AsyncExitStack())
    return stack


async def _place(request: Request) -> AsyncIterator[Caller]:
    async with Place(request) as caller:
        yield caller


Generator = Annotated[Caller, Depends(_place)]
"""The caller of a generation whose body the framework reads. Raises as `Place` does."""
