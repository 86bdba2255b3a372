"""The hot path: a request goes to a backend and its answer comes back, as the same bytes.

Nothing is parsed or re-serialised. The client is watched all the time, also before the first byte: when it leaves,
the connection to the backend is closed, which stops the generation. A backend that breaks off inside a stream gives
the client an error event, where it would otherwise see silence.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tunesmith_gateway.answers import Answer
from tunesmith_gateway.disconnect import while_connected
from tunesmith_gateway.upstream import Outgoing, Target, answered_error
from tunesmith_gateway.usage import HiddenUsage, count_tail
from tunesmith_shared.errors import TunesmithError, UpstreamFailed, render

_PASSED = ("content-type", "retry-after", "content-disposition")
_TAIL = 4096
_CUT = "The model's process ended before the answer was whole. Send the request again."


@dataclass(frozen=True)
class Generation:
    """How a stream of tokens says that it is whole, how an error is said inside it, and what is taken out of it."""

    content_type: str
    end_mark: bytes
    before: bytes
    after: bytes
    rewrite: Callable[[], HiddenUsage] | None = None


SSE = Generation("text/event-stream", b"data: [DONE]", b"data: ", b"\n\n")
SSE_HIDING_USAGE = replace(SSE, rewrite=HiddenUsage)
NDJSON = Generation("application/x-ndjson", b'"done":true', b"", b"\n")


class Relay(Response):
    """An ASGI response that is fetched from `target` while it is sent.

    An answer with an error status is given to `on_error`, which returns what the client is told. `generation` is named
    for answers that may be a stream of tokens.
    """

    def __init__(
        self,
        target: Target,
        request: Outgoing,
        *,
        on_error: Callable[[TunesmithError], Awaitable[TunesmithError]] | None = None,
        generation: Generation | None = None,
    ) -> None:
        super().__init__()
        self._target = target
        self._request = request
        self._on_error = on_error
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Fetch and send, until the answer ends or the client leaves."""
        work = self._transfer(scope, send)
        if self._uploads:  # the body is still being read by `work`: nobody else may call `receive`
            await work
            return
        with suppress(ClientDisconnect):
            await while_connected(receive, work)

    @property
    def _uploads(self) -> bool:
        return self._request.content is not None and not isinstance(self._request.content, bytes)

    async def _transfer(self, scope: Scope, send: Send) -> None:
        try:
            answer = await self._target.send(self._request)
        except TunesmithError as error:
            raise await self._explained(error) from error.__cause__
        with answer:
            if answer.status >= 400 and self._on_error is not None:
                content = await answer.read()
                wait = answer.headers.get("retry-after")
                raise await self._explained(answered_error(self._target.name, answer.status, content, wait))
            headers = [(name.encode(), answer.headers[name].encode()) for name in _PASSED if name in answer.headers]
            if self._generation is not None and answer.content_type == "application/json":
                await self._whole(answer, headers, send)
                return
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await self._stream(answer, scope, send)

    async def _whole(self, answer: Answer, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        """Send an answer that is no stream in one piece, with its length: fewer system calls on both sides."""
        content = await answer.read()
        count_tail(content[-_TAIL:], 0)
        headers.append((b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _explained(self, error: TunesmithError) -> TunesmithError:
        return await self._on_error(error) if self._on_error else error

    async def _stream(self, answer: Answer, scope: Scope, send: Send) -> None:
        """Send the answer's body as it comes; say so when a stream of tokens ends without its end mark."""
        generation = self._generation if answer.status < 400 else None
        if generation and answer.content_type != generation.content_type:
            generation = None
        rewrite = generation.rewrite() if generation and generation.rewrite else None
        tail, pieces = b"", 0
        failure: TunesmithError = UpstreamFailed(_CUT)
        try:
            while content := await answer.piece():
                tail = (tail + content)[-_TAIL:] if len(content) < _TAIL else content
                pieces += content.count(generation.after) if generation else 0
                chunk = rewrite.pass_on(content) if rewrite else content
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TunesmithError as error:
            if generation is None:
                raise
            failure = error
        finally:
            count_tail(tail, pieces)
        whole = generation is None or generation.end_mark in tail
        ending = b"" if whole or generation is None else error_event(generation, scope["path"], failure)
        ending = (rewrite.ending() if rewrite else b"") + ending
        await send({"type": "http.response.body", "body": ending, "more_body": False})


def error_event(generation: Generation, path: str, error: TunesmithError) -> bytes:
    """Return the event that tells a client inside a stream that its answer is not whole."""
    _, body, _ = render(error, path)
    return generation.before + orjson.dumps(body) + generation.after
