"""The bare pass-through: what any Python gateway over aiohttp costs before it does anything of its own.

uvicorn benchmarks.gateway.passthrough:app      (TARGET names the model server)
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp

Message = MutableMapping[str, Any]
_TARGET = os.environ["TARGET"]
_session: list[aiohttp.ClientSession] = []


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]) -> None:
    """Send each request on, and its answer back as it comes."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    headers = {"content-type": "application/json"}
    async with _session[0].request(scope["method"], _TARGET + scope["path"], data=body, headers=headers) as answer:
        shown = [(b"content-type", answer.headers["content-type"].encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": shown})
        async for chunk in answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _lifespan(receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        _session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        await send({"type": "lifespan.startup.complete"})
    await _session[0].close()
    await send({"type": "lifespan.shutdown.complete"})
