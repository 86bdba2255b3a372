"""SIGTERM while requests are open, on real processes."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from aiohttp import web

from tunesmith_shared.testing import Platform, platform_at

from .conftest import FaultyOllama
from .scripted import version

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
TEXT = {"model": "m", "prompt": "x"}


@asynccontextmanager
async def gateway(folder: Path, ollama: str, drain_seconds: float) -> AsyncIterator[tuple[Platform, httpx.AsyncClient]]:
    settings = {"TUNESMITH_OLLAMA_HOST": ollama, "TUNESMITH_DRAIN_SECONDS": str(drain_seconds)}
    with platform_at(folder, **settings) as platform:
        await asyncio.to_thread(platform.start, "gateway")
        headers = {"authorization": f"Bearer {platform.key}"}
        async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=60) as client:
            yield platform, client


def terminate(platform: Platform, number: int = signal.SIGTERM) -> None:
    process = platform.services["gateway"].process
    assert process is not None
    process.send_signal(number)


async def ended(platform: Platform, seconds: float) -> bool:
    process = platform.services["gateway"].process
    assert process is not None
    await asyncio.to_thread(process.wait, seconds)
    return True


async def test_what_outlasts_the_grace_period_is_told(faulty: FaultyOllama, tmp_path: Path) -> None:
    async with gateway(tmp_path, faulty.url, 2) as (platform, client), AsyncExitStack() as streams:
        silent = asyncio.create_task(client.post("/v1/completions", json=TEXT))
        await asyncio.wait_for(faulty.started.wait(), 10)
        opened = {}
        for path in ("/v1/chat/completions", "/api/chat", "/agenerate"):
            body = TEXT if path == "/agenerate" else CHAT
            response = await streams.enter_async_context(client.stream("POST", path, json=body))
            opened[path] = (response, response.aiter_text())
            assert await anext(opened[path][1])
        terminate(platform)
        async with httpx.AsyncClient(base_url=platform.url) as newcomer:
            async with asyncio.timeout(2):  # the signal's way to the process
                while (health := await newcomer.get("/health")).json()["status"] != "STOPPING":
                    pass
            assert health.status_code == 503
            refused = await newcomer.post("/v1/chat/completions", json=CHAT)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
            assert int(refused.headers["retry-after"]) > 0
        last = {path: "".join([part async for part in parts]) for path, (_, parts) in opened.items()}
        for path in ("/v1/chat/completions", "/agenerate"):
            assert orjson.loads(last[path].rstrip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == (
                "stopping"
            )
        assert "stopping" in orjson.loads(last["/api/chat"].splitlines()[-1])["error"]
        assert ((await silent).status_code, (await silent).json()["error"]["code"]) == (503, "stopping")
        assert await ended(platform, 10)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_ends_within_the_grace_period_is_whole_and_then_the_gateway_stops(
    tmp_path: Path, stream: bool
) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def complete(request: web.Request) -> web.StreamResponse:
        await request.read()
        if not stream:
            asked.set()
            await release.wait()
            return web.json_response({"choices": [{"text": "whole"}]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"text": "who"}]}\n\n')
        asked.set()
        await release.wait()
        await response.write(b'data: {"choices": [{"text": "le"}]}\n\ndata: [DONE]\n\n')
        return response

    app = web.Application()
    app.router.add_get("/api/version", version)
    app.router.add_post("/v1/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with gateway(tmp_path, site.name, 120) as (platform, client):
        answer = asyncio.create_task(client.post("/v1/completions", json={**TEXT, "stream": stream}))
        await asyncio.wait_for(asked.wait(), 10)
        terminate(platform)
        async with asyncio.timeout(5):
            while (await client.get("/health")).json()["status"] != "STOPPING":
                pass
        release.set()
        whole = await answer
        assert whole.status_code == 200
        assert whole.text.endswith("data: [DONE]\n\n") if stream else whole.json() == {"choices": [{"text": "whole"}]}
        assert await ended(platform, 30)
    await runner.cleanup()


async def test_a_second_interrupt_does_not_wait_for_what_is_open(faulty: FaultyOllama, tmp_path: Path) -> None:
    async with gateway(tmp_path, faulty.url, 3600) as (platform, client):
        silent = asyncio.create_task(client.post("/v1/completions", json=TEXT))
        await asyncio.wait_for(faulty.started.wait(), 10)
        terminate(platform, signal.SIGINT)
        async with asyncio.timeout(20):
            while (await client.get("/health")).json()["status"] != "STOPPING":
                pass
        assert not silent.done()
        terminate(platform, signal.SIGINT)
        assert (await silent).json()["error"]["code"] == "stopping"
        assert await ended(platform, 60)
