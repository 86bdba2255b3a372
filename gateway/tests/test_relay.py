import asyncio

import httpx
import orjson

from .conftest import FaultyOllama

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}


async def test_a_stream_that_breaks_off_ends_with_an_error_event(
    over_faulty: httpx.AsyncClient, faulty: FaultyOllama
) -> None:
    faulty.breaks_after = 3
    lines = (await over_faulty.post("/v1/chat/completions", json=CHAT)).text.split("\n\n")
    assert lines[:3] == ['data: {"choices": [{"delta": {"content": "x"}}]}'] * 3
    assert orjson.loads(lines[3].removeprefix("data: "))["error"]["code"] == "upstream_failed"


async def test_a_native_stream_that_breaks_off_ends_with_ollamas_error_line(
    over_faulty: httpx.AsyncClient, faulty: FaultyOllama
) -> None:
    faulty.breaks_after = 2
    lines = (await over_faulty.post("/api/chat", json=CHAT)).text.splitlines()
    assert isinstance(orjson.loads(lines[-1])["error"], str)


async def test_a_client_that_leaves_mid_stream_stops_the_generation(
    over_faulty: httpx.AsyncClient, faulty: FaultyOllama
) -> None:
    async with over_faulty.stream("POST", "/v1/chat/completions", json=CHAT) as response:
        await anext(response.aiter_bytes())
    await asyncio.wait_for(faulty.left.wait(), 5)


async def test_a_client_that_leaves_before_the_first_byte_stops_the_generation(
    over_faulty: httpx.AsyncClient, faulty: FaultyOllama
) -> None:
    before = await left(over_faulty)
    request = asyncio.create_task(over_faulty.post("/v1/completions", json={"model": "m", "prompt": "x"}))
    await asyncio.wait_for(faulty.started.wait(), 5)
    request.cancel()
    await asyncio.wait_for(faulty.left.wait(), 5)
    async with asyncio.timeout(5):
        while await left(over_faulty) == before:
            pass


async def left(client: httpx.AsyncClient) -> float:
    """How many completions the gateway counts as left by their client (499)."""
    counted = (await client.get("/metrics")).text.splitlines()
    name = 'tunesmith_requests_total{method="POST",route="/v1/completions",status="499"} '
    return sum(float(line.removeprefix(name)) for line in counted if line.startswith(name))


async def test_a_client_that_leaves_a_plain_request_stops_the_generation(
    over_faulty: httpx.AsyncClient, faulty: FaultyOllama
) -> None:
    request = asyncio.create_task(over_faulty.post("/generate", json={"model": "m", "prompt": "x"}))
    await asyncio.wait_for(faulty.started.wait(), 5)
    request.cancel()
    await asyncio.wait_for(faulty.left.wait(), 5)


async def test_a_model_that_dies_under_a_plain_request_is_said(
    over_faulty: httpx.AsyncClient, faulty: FaultyOllama
) -> None:
    faulty.breaks_after = 2
    whole = await over_faulty.post("/generate", json={"model": "m", "prompt": "x"})
    assert whole.status_code == 502
    faulty.breaks_after = 2
    streamed = (await over_faulty.post("/agenerate", json={"model": "m", "prompt": "x"})).text.split("\n\n")
    assert "error" in orjson.loads(streamed[2].removeprefix("data: "))
