"""What a service answers, while it is still coming: its head, then its body in pieces, lines or whole."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from opentelemetry.trace import Span

from tunesmith_shared import errors
from tunesmith_shared.tracing import FIRST_BYTE


class Answer(ABC):
    """One answer, which must be closed; closing an unfinished one ends the connection, and with it the generation."""

    def __init__(self, status: int, headers: Mapping[str, str], content_type: str) -> None:
        self.status = status
        self.headers = headers
        self.content_type = content_type
        self.on_close: Callable[[], None] | None = None
        self._first: bytes | None = None
        self._rest = b""

    @abstractmethod
    async def _next(self) -> bytes:
        """Return what has come of the body since the last call; nothing at its end."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of what the answer comes from."""

    async def begin(self) -> None:
        """Wait for the first piece, which `piece` then gives. Raises as `piece` does."""
        self._first = await self._next()

    async def piece(self) -> bytes:
        """Return what has come of the body; nothing at its end.

        Raises `UpstreamFailed` when the service breaks off and `UpstreamTimeout` when it is silent for too long.
        """
        if self._first is None:
            return await self._next()
        first, self._first = self._first, None
        return first

    async def line(self) -> bytes:
        """Return the next line with its end; nothing at the end of the body. Raises as `piece` does."""
        while (end := self._rest.find(b"\n") + 1) == 0:
            piece = await self.piece()
            if not piece:
                last, self._rest = self._rest, b""
                return last
            self._rest += piece
        line, self._rest = self._rest[:end], self._rest[end:]
        return line

    async def read(self) -> bytes:
        """Return the whole body. Raises as `piece` does."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection back, or end it when the answer is not finished."""
        self._release()
        if self.on_close is not None:
            self.on_close()
            self.on_close = None

    def __enter__(self) -> Self:
        """Give itself; the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class HttpAnswer(Answer):
    """An answer over HTTP, of the service that people know as `name`.

    The first byte has the time that the request gave it; from then on `between_bytes` seconds without any end the
    answer with `UpstreamTimeout`. `called` is the span of the call, where it is traced.
    """

    def __init__(
        self, name: str, response: aiohttp.ClientResponse, between_bytes: float, called: Span | None = None
    ) -> None:
        super().__init__(response.status, response.headers, response.content_type)
        self._called = called
        self._name = name
        self._response = response
        self._between_bytes = between_bytes
        self._started = False

    async def _next(self) -> bytes:
        try:
            piece = await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise broken_off(self._name, error, between_bytes=self._started) from error
        if not self._started:
            self._started = True
            self._expect_more()
            if self._called is not None:
                self._called.add_event(FIRST_BYTE)
        return piece

    def _expect_more(self) -> None:
        """Count from now on the time between bytes, on the timer that the connection has already."""
        connection = self._response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = self._between_bytes
            connection.protocol.start_timeout()

    def _release(self) -> None:
        self._response.release()
        if self._called is not None:
            self._called.set_attribute("http.response.status_code", self.status)
            self._called.end()
            self._called = None


class MadeAnswer(Answer):
    """An answer in JSON that is made here, of pieces; those of `source`, when it is made from another answer."""

    def __init__(self, content_type: str, pieces: AsyncGenerator[bytes], source: Answer | None = None) -> None:
        super().__init__(200, {"content-type": content_type}, content_type)
        self._pieces = pieces
        self._source = source

    async def _next(self) -> bytes:
        return await anext(self._pieces, b"")

    def _release(self) -> None:
        if self._source is not None:
            self._source.close()


def not_reached(name: str, error: Exception) -> errors.TunesmithError:
    """Return what a caller is told when `name` gave no answer at all."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return errors.UpstreamTimeout(f"The {name} did not take the connection in time.", code="connect_timeout")
    if isinstance(error, aiohttp.ClientConnectorError):
        return errors.Unavailable(f"The {name} is not running or cannot be reached. Try again soon.", retry_after=2)
    return broken_off(name, error, between_bytes=False)


def broken_off(name: str, error: Exception, *, between_bytes: bool) -> errors.TunesmithError:
    """Return what a caller is told when `name` stopped, `between_bytes` of its answer or before the first."""
    if not isinstance(error, asyncio.TimeoutError):
        return errors.UpstreamFailed(f"The {name} broke off before its answer was whole. Try again.")
    if between_bytes:
        return errors.UpstreamTimeout(f"The {name} stopped sending in the midst.", code="between_bytes_timeout")
    return errors.UpstreamTimeout(f"The {name} did not begin to answer in time.", code="first_byte_timeout")
