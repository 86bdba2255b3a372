"""Self-consistency over HTTP: a gateway process before a scripted model server, and the same before the real engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletion

from tunesmith_gateway.self_consistency import rank
from tunesmith_shared.testing import Platform, platform_at

from .scripted import Json, ScriptedOllama, events, scripted_ollama, until

SAID = {7: "It is red.", 8: "No idea at all", 9: "it is red", 10: "It is very red", 11: "Perhaps blue?"}
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Which colour?"}], "seed": 7}
PLAIN = {"model": "m", "prompt": "Which colour?", "seed": 7}
FIVE = {"self_consistency": {"samples": 5, "method": "rouge_l"}}
CANDIDATES = [{"content": c.content, "score": c.score} for c in rank(list(SAID.values()))]


@asynccontextmanager
async def gateway_over_scripted(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, ScriptedOllama]]:
    """A gateway that has not asked its model server for anything yet."""
    async with scripted_ollama() as server:
        with platform_at(folder, TUNESMITH_OLLAMA_HOST=server.url) as platform:
            await asyncio.to_thread(platform.start, "gateway")
            headers = {"authorization": f"Bearer {platform.key}"}
            async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30) as client:
                server.reply = lambda body: SAID[body["seed"]]
                yield client, server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def over(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[httpx.AsyncClient, ScriptedOllama]]:
    """A gateway that knows already that its model server gives one choice, whatever `n` says."""
    async with gateway_over_scripted(tmp_path_factory.mktemp("sampling")) as (client, server):
        await client.post("/v1/chat/completions", json={**ASKED, **FIVE})
        yield client, server


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(over: tuple[httpx.AsyncClient, ScriptedOllama]) -> tuple[httpx.AsyncClient, ScriptedOllama]:
    client, server = over
    server.reset()
    server.reply = lambda body: SAID[body["seed"]]
    return client, server


Over = tuple[httpx.AsyncClient, ScriptedOllama]


async def test_a_server_that_knows_n_is_asked_once_and_what_another_leaves_out_is_asked_for(tmp_path: Path) -> None:
    async with gateway_over_scripted(tmp_path) as (client, server):
        server.takes_n = True
        together = (await client.post("/v1/chat/completions", json={**ASKED, **FIVE})).json()
        assert [(body["n"], body["seed"]) for body in server.bodies] == [(5, 7)]
        assert together["tunesmith"]["candidates"] == CANDIDATES
        assert together["usage"] == {"prompt_tokens": 10, "completion_tokens": 15, "total_tokens": 25}

        server.reset()
        server.reply = lambda body: SAID[body["seed"]]
        assert (await client.post("/v1/chat/completions", json={**ASKED, **FIVE})).json() == together
        assert [body.get("n") for body in server.bodies] == [5, None, None, None, None]
        assert sorted(body["seed"] for body in server.bodies) == [7, 8, 9, 10, 11]
        server.bodies.clear()
        assert (await client.post("/v1/chat/completions", json={**ASKED, **FIVE})).json() == together
        assert [body.get("n") for body in server.bodies] == [None] * 5, "it is known by now"


async def test_the_plain_routes_ask_a_server_that_knows_n_once_with_their_own_options(tmp_path: Path) -> None:
    async with gateway_over_scripted(tmp_path) as (client, server):
        server.takes_n = True
        asked = {**PLAIN, **FIVE, "params": {"top_k": 7}, "session_id": "one"}
        together = (await client.post("/generate", json=asked)).json()
        assert [(body["n"], body["options"]) for body in server.bodies] == [(5, {"seed": 7, "top_k": 7})]
        assert (together["response"], together["candidates"]) == ("It is red.", CANDIDATES)
        assert together["usage"] == {"prompt_tokens": 10, "completion_tokens": 15, "total_tokens": 25}

        # The server is another one all at once: what one request leaves out is asked for.
        server.takes_n = False
        server.bodies.clear()
        assert (await client.post("/generate", json=asked)).json() == together
        assert sorted(body["options"]["seed"] for body in server.bodies) == [7, 8, 9, 10, 11]


async def test_a_stream_asks_once_for_all_choices_and_then_for_those_left_out(tmp_path: Path) -> None:
    async with gateway_over_scripted(tmp_path) as (client, server):
        body = {**ASKED, "n": 3, "stream": True, "stream_options": {"include_usage": True}}

        async def choices() -> dict[int, str]:
            parts = events((await client.post("/v1/chat/completions", json=body)).text)
            told = [choice for part in parts for choice in part["choices"]]
            return {choice["index"]: choice["delta"]["content"] for choice in told}

        expected = {index: SAID[7 + index] for index in range(3)}
        server.takes_n = True
        assert await choices() == expected
        assert [(body["n"], body["seed"]) for body in server.bodies] == [(3, 7)]
        server.takes_n = False
        for asked in ([3, None, None], [None, None, None]):  # the second time it is known
            server.bodies.clear()
            assert await choices() == expected
            assert [body.get("n") for body in server.bodies] == asked


async def test_five_samples_run_at_once_with_their_own_seeds_and_the_medoid_answers(fresh: Over) -> None:
    client, server = fresh
    server.open.clear()
    request = asyncio.create_task(client.post("/v1/chat/completions", json={**ASKED, **FIVE}))
    await until(lambda: server.running == 5, "five samples run at once")
    server.open.set()
    answer: Json = (await request).json()
    assert sorted(body["seed"] for body in server.bodies) == [7, 8, 9, 10, 11]
    assert all("self_consistency" not in body for body in server.bodies)
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["It is red."]
    assert answer["tunesmith"]["candidates"] == CANDIDATES
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 15, "total_tokens": 25}


async def test_a_stream_sends_the_winner_and_then_all_candidates(fresh: Over) -> None:
    client, _ = fresh
    body = {**ASKED, **FIVE, "stream": True, "stream_options": {"include_usage": True}}
    text, end, usage = events((await client.post("/v1/chat/completions", json=body)).text)
    assert text["object"] == "chat.completion.chunk"
    assert text["choices"][0]["delta"] == {"role": "assistant", "content": "It is red."}
    assert end["choices"][0]["finish_reason"] == "stop"
    assert end["tunesmith"]["candidates"] == CANDIDATES
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 15)


async def test_the_plain_routes_answer_the_same(fresh: Over) -> None:
    client, server = fresh
    answer = (await client.post("/generate", json={**PLAIN, **FIVE})).json()
    assert (answer["response"], answer["candidates"]) == ("It is red.", CANDIDATES)
    assert answer["usage"]["completion_tokens"] == 15
    assert sorted(body["options"]["seed"] for body in server.bodies) == [7, 8, 9, 10, 11]
    piece, end = events((await client.post("/agenerate", json={**PLAIN, **FIVE})).text)
    assert piece == {"response": "It is red.", "done": False}
    assert (end["done"], end["response"], end["candidates"]) == (True, "It is red.", CANDIDATES)


async def test_a_session_keeps_the_winner_alone(fresh: Over) -> None:
    client, _ = fresh
    await client.post("/v1/chat/completions", json={**ASKED, **FIVE, "session_id": "consistent"})
    kept = (await client.get("/sessions/consistent")).json()["messages"]
    assert [message["content"] for message in kept] == ["Which colour?", "It is red."]


async def test_a_client_that_leaves_stops_every_sample(fresh: Over) -> None:
    client, server = fresh
    for path, body in (("/v1/chat/completions", ASKED), ("/generate", PLAIN), ("/agenerate", PLAIN)):
        server.open.clear()
        server.gone = 0
        request = asyncio.create_task(client.post(path, json={**body, **FIVE}))
        await until(lambda: server.running == 5, f"five samples of {path} run")
        request.cancel()
        await until(lambda: server.gone == 5, f"five samples of {path} stopped")


async def test_a_sample_that_fails_stops_the_others_and_is_said(fresh: Over) -> None:
    client, server = fresh
    server.status = 507
    answer = await client.post("/v1/chat/completions", json={**ASKED, **FIVE})
    assert (answer.status_code, answer.json()["error"]["message"]) == (507, "scripted")
    await until(lambda: server.running == 0, "no sample goes on")


async def test_what_cannot_be_is_refused_before_anything_is_asked(fresh: Over) -> None:
    client, server = fresh
    refused: list[tuple[Json, str]] = [
        ({"self_consistency": {"samples": 17}}, "self_consistency.samples"),
        ({"self_consistency": {"method": "bleu"}}, "self_consistency.method"),
        ({"self_consistency": {"sample": 3}}, "self_consistency.sample"),
        ({**FIVE, "n": 2}, "n"),
        ({**FIVE, "tools": [{"type": "function", "function": {"name": "f"}}]}, "self_consistency"),
    ]
    for extra, param in refused:
        answer = await client.post("/v1/chat/completions", json={**ASKED, **extra})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert (await client.post("/generate", json={**PLAIN, "self_consistency": {"samples": 0}})).status_code == 400
    assert server.bodies == []


def test_the_same_seed_gives_the_same_winner_on_the_real_engine(platform: Platform) -> None:
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as gpt:

        def ask(seed: int, extra: Json | None = None) -> ChatCompletion:
            return gpt.chat.completions.create(
                model="smollm2:135m",
                messages=[{"role": "user", "content": "Name an animal."}],
                max_tokens=12,
                temperature=1.0,
                seed=seed,
                extra_body=extra,
            )

        consistent = ask(3, {"self_consistency": {"samples": 3}})
        candidates = (consistent.model_extra or {})["tunesmith"]["candidates"]
        singles = [ask(3 + index).choices[0].message.content for index in range(3)]
        assert [candidate["content"] for candidate in candidates] == singles
        best = max(candidates, key=lambda candidate: candidate["score"])
        assert consistent.choices[0].message.content == best["content"]
