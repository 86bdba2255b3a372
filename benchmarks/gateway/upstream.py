"""The mock model server: answers at once, as Ollama does over the wire, whole or as a stream of 100 chunks.

    python -m benchmarks.gateway.upstream PORT

It speaks HTTP/1.1 on a bare asyncio protocol, so that it costs little beside what is measured. Each chunk of a stream
is a write of its own, with a turn of the event loop between two: as fast as the reader takes them.
"""

import asyncio
import json
import sys
from typing import Any

import httptools
import uvloop

MODEL = "mock:latest"
CHUNKS = 100

_HEAD = {"id": "chatcmpl-1", "created": 1, "model": MODEL}
_USAGE = {"prompt_tokens": 20, "completion_tokens": CHUNKS, "total_tokens": 20 + CHUNKS}
_TAG = {"name": MODEL, "model": MODEL, "size": 1, "modified_at": "2026-01-01T00:00:00Z", "details": {"family": "llama"}}


def whole() -> bytes:
    """Return a chat completion."""
    message = {"role": "assistant", "content": "The sky is blue. " * 6}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()


def events() -> list[bytes]:
    """Return the events of a streamed chat completion, its end mark included."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"content": f" word{i}"}, None) for i in range(CHUNKS - 1)]
    deltas.append(({"content": ""}, "stop"))
    choices = [{"index": 0, "delta": delta, "finish_reason": reason} for delta, reason in deltas]
    chunks = [{**_HEAD, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
    return [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


def usage_event() -> bytes:
    """Return the event that names the tokens, for requests that ask for it."""
    chunk = {**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _answer(status: str, content: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


_WHOLE = _answer("200 OK", whole())
_UNKNOWN = _answer("404 Not Found", b'{"error":"not found"}')
_OTHERS = {
    b"/api/tags": _answer("200 OK", json.dumps({"models": [_TAG]}).encode()),
    b"/api/ps": _answer("200 OK", json.dumps({"models": [{**_TAG, "context_length": 4096}]}).encode()),
    b"/api/version": _answer("200 OK", b'{"version":"0.33.0"}'),
    b"/api/show": _answer("200 OK", b'{"parameters":""}'),
    b"/v1/models": _answer("200 OK", json.dumps({"object": "list", "data": [{"id": MODEL}]}).encode()),
}
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENTS = [_chunk(event) for event in events()]
_USAGE_EVENT = _chunk(usage_event())


class Connection(asyncio.Protocol):
    """One client's connection, kept alive; a request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take in a client."""
        self._transport: Any = transport
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body = b""
        self._gone = False
        self._streaming: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        self._parser.feed_data(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop writing."""
        self._gone = True

    def on_url(self, url: bytes) -> None:
        """A request begins."""
        self._path, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        if self._path != b"/v1/chat/completions":
            self._transport.write(_OTHERS.get(self._path, _UNKNOWN))
            return
        asked = json.loads(self._body)
        if not asked.get("stream"):
            self._transport.write(_WHOLE)
            return
        wants_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        task = asyncio.ensure_future(self._stream(wants_usage))
        self._streaming.add(task)
        task.add_done_callback(self._streaming.discard)

    async def _stream(self, wants_usage: bool) -> None:
        self._transport.write(_STREAM_HEAD)
        ending = [_USAGE_EVENT, _EVENTS[-1]] if wants_usage else _EVENTS[-1:]
        for event in _EVENTS[:-1] + ending:
            if self._gone:
                return
            self._transport.write(event)
            await asyncio.sleep(0)
        self._transport.write(b"0\r\n\r\n")


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
