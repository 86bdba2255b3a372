"""A running platform for the gateway's tests: engine, rag-service and gateway as processes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from tunesmith_shared.testing import Platform, platform_at, wait_for_models

SSE_LINE = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
NDJSON_LINE = b'{"message": {"content": "x"}, "done": false}\n'


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform_at(tmp_path_factory.mktemp("gateway")) as platform:
        platform.start("engine", "rag", "gateway")
        wait_for_models(platform.services["engine"].url)
        yield platform


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {platform.key}"}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=120) as client:
        yield client


@dataclass
class FaultyOllama:
    """Stands where Ollama stands, to break off and to count: what no healthy server does on demand."""

    url: str
    breaks_after: int | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def tags(self, _request: web.Request) -> web.Response:
        details = {"family": "llama", "parameter_size": "1M", "quantization_level": "F16"}
        model = {"name": "m:latest", "size": 1, "details": details, "modified_at": "2026-01-01T00:00:00Z"}
        return web.json_response({"models": [model]})

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "0.0.0", "extensions": ["truncate"]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        sse = request.path.startswith("/v1")
        response = web.StreamResponse(headers={"content-type": "text/event-stream" if sse else "application/x-ndjson"})
        await response.prepare(request)
        self.started.set()
        line = (
            b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
            if sse
            else b'{"message": {"content": "x"}, "done": false}\n'
        )
        sent = 0
        try:
            while self.breaks_after is None or sent < self.breaks_after:
                await response.write(line)
                sent += 1
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        if request.transport is not None:
            request.transport.close()
        return response

    async def silent(self, _request: web.Request) -> web.StreamResponse:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        return web.Response()


@pytest_asyncio.fixture(scope="session")
async def faulty_server() -> AsyncIterator[FaultyOllama]:
    server = FaultyOllama("")
    app = web.Application()
    app.router.add_get("/api/tags", server.tags)
    app.router.add_get("/api/version", server.version)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_post("/v1/completions", server.silent)
    app.router.add_post("/api/chat", server.chat)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = site.name
    yield server
    await runner.cleanup()


@pytest.fixture
def faulty(faulty_server: FaultyOllama) -> FaultyOllama:
    """The faulty server as if new: nothing has come, nothing breaks off."""
    faulty_server.breaks_after = None
    faulty_server.started, faulty_server.left = asyncio.Event(), asyncio.Event()
    return faulty_server


@pytest_asyncio.fixture(scope="session")
async def over_faulty(
    faulty_server: FaultyOllama, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway whose model server is the faulty one."""
    with platform_at(tmp_path_factory.mktemp("faulty"), TUNESMITH_OLLAMA_HOST=faulty_server.url) as platform:
        await asyncio.to_thread(platform.start, "gateway")
        headers = {"authorization": f"Bearer {platform.key}"}
        async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=120) as client:
            yield client
