"""Server-sent events: reading a backend's, and writing ours."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson

from tunesmith_gateway.upstream import Outgoing, Target, answered_error
from tunesmith_gateway.usage import count
from tunesmith_shared.errors import UpstreamFailed

Json = dict[str, Any]

DONE = b"[DONE]"


def event(data: bytes) -> bytes:
    """Return one event."""
    return b"data: " + data + b"\n\n"


async def read_events(
    target: Target, path: str, owner: str, body: Json, usage: Json | None = None
) -> AsyncGenerator[bytes]:
    """Yield the data of each event that `target` answers with, until its end mark.

    The tokens are always asked for, counted and put into `usage`; the event that names them is kept from clients that
    did not ask.
    Raises the answer's error, and `UpstreamFailed` when the stream ends without its mark.
    """
    with await target.send(Outgoing("POST", path, owner, body=asking_for_usage(body))) as answer:
        if answer.status >= 400:
            refusal = await answer.read()
            raise answered_error(target.name, answer.status, refusal, answer.headers.get("retry-after"))
        while line := await answer.line():
            data = line.strip().removeprefix(b"data:").strip()
            if data == DONE:
                return
            if data and line.startswith(b"data:") and (b'"usage"' not in data or _shown(data, body, usage)):
                yield data
    raise UpstreamFailed("The model's process ended before the answer was whole. Send the request again.")


def asks_for_usage(body: Json) -> bool:
    """Return whether a request wants the event that names its tokens."""
    return bool((body.get("stream_options") or {}).get("include_usage"))


def asking_for_usage(body: Json) -> Json:
    """Return `body`, asking for the event that names its tokens."""
    return {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}


def _shown(data: bytes, body: Json, usage: Json | None) -> bool:
    """Count the tokens that an event names; return whether the client of `body` gets the event."""
    part = orjson.loads(data)
    if part.get("usage"):
        count(part)
        if usage is not None:
            usage.update(part["usage"])
    return bool(part.get("choices")) or asks_for_usage(body) or "error" in part
