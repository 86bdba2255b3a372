"""Server-sent events: reading a backend's, and writing ours."""

from collections.abc import AsyncGenerator

import aiohttp
import orjson

from tunesmith_gateway.upstream import Upstream, answered_error, connection_error
from tunesmith_shared.errors import UpstreamFailed

DONE = b"[DONE]"


def event(data: bytes) -> bytes:
    """Return one event."""
    return b"data: " + data + b"\n\n"


async def read_events(upstream: Upstream, path: str, owner: str, body: object) -> AsyncGenerator[bytes]:
    """Yield the data of each event that `upstream` answers with, until its end mark.

    Raises the answer's error, and `UpstreamFailed` when the stream ends without its mark.
    """
    headers = {**upstream.for_owner(owner), "content-type": "application/json"}
    try:
        async with upstream.session.post(upstream.url + path, data=orjson.dumps(body), headers=headers) as answer:
            if answer.status >= 400:
                content = await answer.read()
                raise answered_error(upstream.name, answer.status, content, answer.headers.get("retry-after"))
            async for line in answer.content:
                data = line.strip().removeprefix(b"data:").strip()
                if data == DONE:
                    return
                if data and line.startswith(b"data:"):
                    yield data
    except (aiohttp.ClientError, TimeoutError) as error:
        raise connection_error(upstream.name, error) from error
    raise UpstreamFailed("The model's process ended before the answer was whole. Send the request again.")
