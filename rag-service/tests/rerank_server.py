"""A server with `/v1/rerank` whose scores a test decides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


@asynccontextmanager
async def reranker_at(answer: Any, seen: list[dict[str, Any]]) -> AsyncIterator[str]:
    """A server with `/v1/rerank` that answers with `answer`, or never when it is None."""

    async def rerank(request: web.Request) -> web.Response:
        seen.append({**await request.json(), "authorization": request.headers.get("authorization")})
        if answer is None:
            await asyncio.Event().wait()
        return web.json_response(answer)

    app = web.Application()
    app.router.add_post("/v1/rerank", rerank)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.name
    finally:
        await runner.cleanup()
