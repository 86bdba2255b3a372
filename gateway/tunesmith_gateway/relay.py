"""The hot path: a request goes to a backend and its answer comes back, as the same bytes.

Nothing is parsed or re-serialised. The client is watched all the time, also before the first byte: when it leaves,
the connection to the backend is closed, which stops the generation. A backend that breaks off inside a stream gives
the client an error event, where it would otherwise see silence.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import aiohttp
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tunesmith_gateway.upstream import Upstream, answered_error, connection_error
from tunesmith_gateway.usage import HiddenUsage, count_tail
from tunesmith_shared.errors import TunesmithError, UpstreamFailed, render

_PASSED = ("content-type", "retry-after", "content-disposition")
_TAIL = 4096


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
    """An ASGI response that is fetched from `upstream` while it is sent.

    `body` is the request's body: bytes, or an iterator for uploads that must not be held in memory. An answer with an
    error status is given to `on_error`, which returns what the client is told. `generation` is named for answers that
    may be a stream of tokens.
    """

    def __init__(
        self,
        upstream: Upstream,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
        params: Mapping[str, str] | None = None,
        on_error: Callable[[TunesmithError], Awaitable[TunesmithError]] | None = None,
        generation: Generation | None = None,
    ) -> None:
        super().__init__()
        self._upstream = upstream
        self._method = method
        self._path = path
        self._request_headers = headers
        self._content = body
        self._params = params
        self._on_error = on_error
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Fetch and send, until the answer ends or the client leaves."""
        work = asyncio.ensure_future(self._transfer(scope, send))
        # An upload's body is still being read by `work`; only then nobody else may call `receive`.
        watch = asyncio.ensure_future(_disconnected(receive) if not self._uploads else asyncio.Event().wait())
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            if not work.done():
                work.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
        if not work.cancelled():
            work.result()

    @property
    def _uploads(self) -> bool:
        return self._content is not None and not isinstance(self._content, bytes)

    async def _transfer(self, scope: Scope, send: Send) -> None:
        started = False
        try:
            async with self._upstream.session.request(
                self._method,
                self._upstream.url + self._path,
                data=self._content,
                params=self._params,
                headers=self._request_headers,
                allow_redirects=False,
            ) as answer:
                if answer.status >= 400 and self._on_error is not None:
                    await self._refuse(answer)
                headers = [(name.encode(), answer.headers[name].encode()) for name in _PASSED if name in answer.headers]
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                started = True
                await self._stream(answer, scope, send)
        except (aiohttp.ClientError, TimeoutError) as error:
            if started:
                raise
            raise connection_error(self._upstream.name, error) from error

    async def _stream(self, answer: aiohttp.ClientResponse, scope: Scope, send: Send) -> None:
        """Send the answer's body as it comes; say so when a stream of tokens ends without its end mark."""
        generation = self._generation if answer.status < 400 else None
        if generation and answer.content_type != generation.content_type:
            generation = None
        rewrite = generation.rewrite() if generation and generation.rewrite else None
        tail, pieces = b"", 0
        try:
            async for content in answer.content.iter_any():
                tail = (tail + content)[-_TAIL:]
                pieces += content.count(generation.after) if generation else 0
                chunk = rewrite.pass_on(content) if rewrite else content
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (aiohttp.ClientError, TimeoutError):
            if generation is None:
                raise
        finally:
            count_tail(tail, pieces)
        whole = generation is None or generation.end_mark in tail
        ending = b"" if whole or generation is None else error_event(generation, scope["path"])
        ending = (rewrite.ending() if rewrite else b"") + ending
        await send({"type": "http.response.body", "body": ending, "more_body": False})

    async def _refuse(self, answer: aiohttp.ClientResponse) -> None:
        content = await answer.read()
        error = answered_error(self._upstream.name, answer.status, content, answer.headers.get("retry-after"))
        raise await self._on_error(error) if self._on_error else error


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def error_event(generation: Generation, path: str) -> bytes:
    """Return the event that tells a client inside a stream that the model stopped before its answer was whole."""
    error = UpstreamFailed("The model's process ended before the answer was whole. Send the request again.")
    _, body, _ = render(error, path)
    return generation.before + orjson.dumps(body) + generation.after
