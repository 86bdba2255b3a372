"""Stopping: what is open may end within the grace period, and what does not is told so.

Uvicorn by itself closes its listeners at once and cuts off what still runs when its time is over. Here the listeners
stay until everything open has ended: `/health` answers 503 and new requests are refused with `Retry-After` meanwhile.
At the end of the grace period an open stream gets an error event, and a request without an answer a 503.
"""

import asyncio
from collections.abc import Awaitable

import orjson
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_shared.errors import Unavailable, render

_STILL_ANSWERED = ("/health", "/metrics")
_RETRY_SECONDS = 5
_LAST_WORDS_SECONDS = 2.0
_LOOK_SECONDS = 0.1


class OpenRequests:
    """The requests of one process that have no whole answer yet, by the task that serves them.

    `hurry` ends every waiting for them.
    """

    def __init__(self) -> None:
        self.answers: dict[asyncio.Task[object], _Answer] = {}
        self.hurry = False

    async def wait(self, seconds: float) -> None:
        """Return when all have ended, after `seconds` at the latest."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self.answers and not self.hurry and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(set(self.answers), timeout=min(left, _LOOK_SECONDS))

    async def end(self) -> None:
        """Break off what is still open, saying so to each client."""
        for task, answer in self.answers.items():
            answer.broken_off = True
            task.cancel()
        await self.wait(_LAST_WORDS_SECONDS)


class Drain:
    """Keeps `app.state.open_requests`, and refuses new requests while `app.state.draining`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope; anything but HTTP, and what tells the state, passes through."""
        if scope["type"] != "http" or scope["path"] in _STILL_ANSWERED:
            await self.app(scope, receive, send)
            return
        state, task = scope["app"].state, asyncio.current_task()
        if state.draining or task is None:
            await _refusal(scope["path"])(scope, receive, send)
            return
        answers: dict[asyncio.Task[object], _Answer] = state.open_requests.answers
        answer = answers[task] = _Answer(send)
        try:
            await self.app(scope, receive, answer.send)
        except asyncio.CancelledError:
            if not answer.broken_off:
                raise
            task.uncancel()
            await answer.break_off(scope, receive)
        finally:
            del answers[task]


class _Answer:
    """An answer on its way: how far it is, and how to say inside it that it ends here."""

    def __init__(self, send: Send) -> None:
        self.broken_off = False
        self._send = send
        self._headers: list[tuple[bytes, bytes]] = []
        self._started = False
        self._ended = False
        self._last = b"\n"

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a part on, without a coroutine of its own: a stream has many."""
        if message["type"] == "http.response.start":
            self._started = True
            self._headers = list(message.get("headers", ()))
        else:
            self._last = message.get("body", b"")[-1:] or self._last
            self._ended = not message.get("more_body", False)
        return self._send(message)

    async def break_off(self, scope: Scope, receive: Receive) -> None:
        """Say that the service stops. An answer that is neither a stream nor begun stays cut: nothing can be said."""
        if not self._started:
            await _refusal(scope["path"])(scope, receive, self._send)
            return
        content = orjson.dumps(render(_stopping(), scope["path"])[1])
        events = {
            "text/event-stream": (b"" if self._last == b"\n" else b"\n\n") + b"data: " + content + b"\n\n",
            "application/x-ndjson": (b"" if self._last == b"\n" else b"\n") + content + b"\n",
        }
        content_type = Headers(raw=self._headers).get("content-type", "").partition(";")[0]
        if not self._ended and content_type in events:
            await self._send({"type": "http.response.body", "body": events[content_type], "more_body": False})


def _stopping() -> Unavailable:
    message = "The service is stopping. Send the request again soon."
    return Unavailable(message, code="stopping", retry_after=_RETRY_SECONDS)


def _refusal(path: str) -> JSONResponse:
    status, body, headers = render(_stopping(), path)
    return JSONResponse(body, status_code=status, headers={**headers, "connection": "close"})
