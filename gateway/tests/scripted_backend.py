"""A backend of either kind whose next answers a test chooses: whole ones, held ones, and every way to fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Json = dict[str, Any]
Mood = Literal["well", "held", "busy", "cut before a byte", "cut in the midst", "silent", "stalled", "locked", "moved"]

_PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": null}]}\n\n'


@dataclass
class ScriptedBackend:
    """Answers generations as `mood` says; `bodies` and `headers` are what came, `running` what is held.

    `context` is how many tokens it takes, as it tells; with 0 it does not tell, and takes any.
    """

    name: str
    models: tuple[str, ...]
    url: str = ""
    mood: Mood = "well"
    elsewhere: str = ""
    bodies: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    running: int = 0
    knows_n: bool = True
    context: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """Be well, and know of nothing."""
        self.mood = "well"
        self.knows_n = True
        self.context = 0
        self.bodies.clear()
        self.headers.clear()
        self.open = asyncio.Event()

    async def tags(self, _request: web.Request) -> web.Response:
        details = {"family": "llama", "parameter_size": "1M", "quantization_level": "F16"}
        made = {"size": 1, "details": details, "modified_at": "2026-01-01T00:00:00Z"}
        return web.json_response({"models": [{"name": name, **made} for name in self.models]})

    async def listed(self, _request: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "0.0.0"})

    async def loaded(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": name, "context_length": self.context} for name in self.models]})

    async def asked_whether_it_fits(self, request: web.Request) -> web.Response:
        """Refuse what has more words than the context has tokens, as Ollama does under `truncate: false`."""
        body = await request.json()
        assert body["truncate"] is False
        said = str(body.get("prompt") or body.get("input") or [message["content"] for message in body["messages"]])
        if self.context and len(said.split()) > self.context:
            return web.json_response({"error": "the input length exceeds the context length"}, status=400)
        return web.json_response({"done": True})

    async def shown(self, _request: web.Request) -> web.Response:
        return web.json_response({"parameters": 'temperature 0.25\nstop "x"'})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        match self.mood:
            case "busy":
                return web.json_response({"error": {"message": f"{self.name} is busy"}}, status=503)
            case "locked":
                return web.json_response({"error": {"message": "Incorrect API key: sk-se***et"}}, status=401)
            case "moved":
                raise web.HTTPTemporaryRedirect(f"{self.elsewhere}{request.path}")
            case "held":
                self.running += 1
                await self.open.wait()
                self.running -= 1
            case "silent":
                await self.open.wait()
        if self.mood in ("cut before a byte", "cut in the midst", "stalled"):
            return await self._broken(request)
        return self._whole(request.path, body)

    async def _broken(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if self.mood != "cut before a byte":
            await response.write(_PIECE)
        if self.mood == "stalled":
            await self.open.wait()
        if request.transport is not None:
            request.transport.close()
        return response

    def _whole(self, path: str, body: Json) -> web.Response:
        if path == "/v1/embeddings":
            return web.json_response({"data": [{"index": 0, "embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 2}})
        count = body.get("n", 1) if self.knows_n else 1
        choices = [
            {"index": index, "message": {"role": "assistant", "content": self.name}, "finish_reason": "stop"}
            for index in range(count)
        ]
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        return web.json_response({"id": "1", "created": 1, "model": body["model"], "choices": choices, "usage": usage})


@asynccontextmanager
async def running(backend: ScriptedBackend) -> AsyncIterator[ScriptedBackend]:
    """Serve it on a free port, in both dialects, for as long as the block lasts."""
    app = web.Application()
    app.router.add_get("/api/tags", backend.tags)
    app.router.add_get("/api/version", backend.version)
    app.router.add_get("/api/ps", backend.loaded)
    app.router.add_post("/api/show", backend.shown)
    for path in ("/api/chat", "/api/generate", "/api/embed"):
        app.router.add_post(path, backend.asked_whether_it_fits)
    app.router.add_get("/v1/models", backend.listed)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        app.router.add_post(path, backend.generate)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    backend.url = site.name
    try:
        yield backend
    finally:
        await runner.cleanup()
