"""Limits as clients meet them, on a gateway whose model server answers when the test says so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import orjson
import psutil
import pytest
import pytest_asyncio
from aiohttp import web

from tunesmith_shared.testing import Platform, platform_at

from .scripted import version

RUNNING, WAITING = 2, 6
TEXT = {"model": "m", "prompt": "x"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


@dataclass
class SlowOllama:
    """Answers completions when `release` is set, and counts how many it is asked for at once."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most: int = 0

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.release.wait()
        finally:
            self.running -= 1
        if not body.get("stream"):
            return web.json_response({"choices": [{"text": "x", "index": 0}], "usage": USAGE})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"text": "x"}]}\n\n')
        if (body.get("stream_options") or {}).get("include_usage"):
            await response.write(b'data: {"choices": [], "usage": ' + orjson.dumps(USAGE) + b"}\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


@pytest_asyncio.fixture(scope="module")
async def slow_server() -> AsyncIterator[tuple[SlowOllama, str]]:
    server, app = SlowOllama(), web.Application()
    app.router.add_get("/api/version", version)
    app.router.add_post("/v1/completions", server.complete)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield server, site.name
    await runner.cleanup()


@pytest.fixture
def slow(slow_server: tuple[SlowOllama, str]) -> SlowOllama:
    server = slow_server[0]
    server.release, server.most = asyncio.Event(), 0
    return server


@pytest_asyncio.fixture(scope="module")
async def platform(
    slow_server: tuple[SlowOllama, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    settings = {
        "TUNESMITH_OLLAMA_HOST": slow_server[1],
        "TUNESMITH_RUNNING_GENERATIONS": str(RUNNING),
        "TUNESMITH_WAITING_GENERATIONS": str(WAITING),
    }
    with platform_at(tmp_path_factory.mktemp("limits"), **settings) as platform:
        await asyncio.to_thread(platform.start, "gateway")
        yield platform


@pytest_asyncio.fixture
async def client(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    headers, limits = {"authorization": f"Bearer {platform.key}"}, httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=60, limits=limits) as client:
        yield client


async def limited(client: httpx.AsyncClient, **limits: int) -> dict[str, str]:
    """Return the headers of a new key with `limits`."""
    made = await client.post("/v1/api_keys", json={"name": "limited", "limits": limits})
    return {"authorization": f"Bearer {made.json()['secret']}"}


async def test_four_times_the_queue_is_refused_quickly_in_flat_memory(
    platform: Platform, client: httpx.AsyncClient, slow: SlowOllama
) -> None:
    capacity, process = RUNNING + WAITING, platform.services["gateway"].process
    assert process is not None
    sizes = []
    for _ in range(3):
        slow.release.clear()
        asked = [asyncio.create_task(client.post("/v1/completions", json=TEXT)) for _ in range(4 * capacity)]
        refused: set[asyncio.Task[httpx.Response]] = set()
        while len(refused) < 3 * capacity:  # while every place is taken, the others are answered
            done, _ = await asyncio.wait(set(asked) - refused, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            assert done, f"only {len(refused)} were refused"
            refused |= done
        answers = [task.result() for task in refused]
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"5"}
        assert {answer.json()["error"]["code"] for answer in answers} == {"queue_full"}
        slow.release.set()
        served = await asyncio.gather(*(set(asked) - refused))
        assert [answer.status_code for answer in served] == [200] * capacity
        sizes.append(psutil.Process(process.pid).memory_info().rss)
    assert slow.most == RUNNING
    assert sizes[-1] - sizes[0] < 16 * 2**20


async def test_a_client_that_stops_waiting_gives_its_place_to_another(
    client: httpx.AsyncClient, slow: SlowOllama
) -> None:
    asked = [asyncio.create_task(client.post("/v1/completions", json=TEXT)) for _ in range(RUNNING + WAITING)]
    await _until(client, WAITING)
    asked.pop().cancel()
    await _until(client, WAITING - 1)
    asked.append(asyncio.create_task(client.post("/v1/completions", json=TEXT)))
    await _until(client, WAITING)
    slow.release.set()
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}


async def _until(client: httpx.AsyncClient, waiting: int) -> None:
    """Return when the gateway says that so many generations wait."""
    async with asyncio.timeout(20):
        while f'tunesmith_generations{{state="waiting"}} {waiting:.1f}' not in (await client.get("/metrics")).text:
            pass


async def test_a_key_over_its_request_rate_gets_429_with_retry_after(client: httpx.AsyncClient) -> None:
    headers = await limited(client, requests_per_minute=2)
    answers = [await client.get("/sessions", headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert answers[2].json()["error"] == {
        "message": "This API key may send 2 requests a minute.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


async def test_a_key_over_its_concurrency_gets_429(client: httpx.AsyncClient, slow: SlowOllama) -> None:
    headers = await limited(client, concurrency=1)
    first = asyncio.create_task(client.post("/v1/completions", json=TEXT, headers=headers))
    second = asyncio.create_task(client.post("/v1/completions", json=TEXT, headers=headers))
    done, open_still = await asyncio.wait({first, second}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    refused = done.pop().result()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
    slow.release.set()
    assert (await open_still.pop()).status_code == 200
    assert (await client.post("/v1/completions", json=TEXT, headers=headers)).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_counted_from_usage(client: httpx.AsyncClient, slow: SlowOllama, stream: bool) -> None:
    slow.release.set()
    headers = await limited(client, tokens_per_minute=10)
    body = {**TEXT, "stream": stream}
    first = await client.post("/v1/completions", json=body, headers=headers)
    assert first.status_code == 200
    assert (await client.post("/v1/completions", json=body, headers=headers)).status_code == 200
    later = [await client.post("/v1/completions", json=body, headers=headers) for _ in range(3)]
    # A stream is counted when it has ended, which its reader may see a moment before.
    assert [answer.status_code for answer in later[1:]] == [429, 429]
    assert later[-1].json()["error"]["code"] == "rate_limit_exceeded"
    if stream:  # usage was asked for on the way, and kept from a client that did not want it
        assert first.text == 'data: {"choices": [{"text": "x"}]}\n\ndata: [DONE]\n\n'


async def test_metrics_tell_of_requests_waiting_first_tokens_and_speed(
    client: httpx.AsyncClient, slow: SlowOllama
) -> None:
    before = await metrics(client)
    asked = [asyncio.create_task(client.post("/v1/completions", json=TEXT)) for _ in range(RUNNING + 1)]
    await _until(client, 1)
    assert (await metrics(client))['tunesmith_generations{state="running"}'] == RUNNING
    slow.release.set()
    await asyncio.gather(*asked)
    streamed = {**TEXT, "stream": True, "stream_options": {"include_usage": True}}
    assert (await client.post("/v1/completions", json=streamed)).status_code == 200
    after = await metrics(client)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    done = 'tunesmith_requests_total{method="POST",route="/v1/completions",status="200"}'
    assert grown[done] == RUNNING + 2
    assert grown["tunesmith_queue_wait_seconds_count"] == RUNNING + 2
    assert grown["tunesmith_time_to_first_token_seconds_count"] == 1
    assert grown['tunesmith_tokens_per_second_count{kind="stream"}'] == 1
    assert grown['tunesmith_tokens_per_second_count{kind="whole"}'] == RUNNING + 1
    assert grown['tunesmith_tokens_total{kind="completion"}'] == 3 * (RUNNING + 2)
    assert grown['tunesmith_tokens_total{kind="prompt"}'] == 5 * (RUNNING + 2)


async def metrics(client: httpx.AsyncClient) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] not in ("#", ""))
    }
