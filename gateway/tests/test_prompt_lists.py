"""Completions of several prompts in one request, before a model server that takes one: scripted, then the engine."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import pytest_asyncio

from tunesmith_shared.testing import Platform

from .scripted import Json, ScriptedOllama, events, until
from .test_sampling import gateway_over_scripted

PROMPTS = [f"prompt {number}" for number in range(20)]
ASKED: Json = {"model": "m", "prompt": PROMPTS[:3], "n": 2, "seed": 5}
SAID = ["prompt 0/5", "prompt 0/6", "prompt 1/5", "prompt 1/6", "prompt 2/5", "prompt 2/6"]
USAGE = {"prompt_tokens": 30, "completion_tokens": 18, "total_tokens": 48}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def over(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[httpx.AsyncClient, ScriptedOllama]]:
    async with gateway_over_scripted(tmp_path_factory.mktemp("prompts")) as (client, server):
        server.reply = lambda body: f"{body['prompt']}/{body.get('seed')}"
        yield client, server


async def test_the_choices_of_each_prompt_follow_one_another(over: tuple[httpx.AsyncClient, ScriptedOllama]) -> None:
    client, _ = over
    answer = (await client.post("/v1/completions", json=ASKED)).json()
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert [choice["message"]["content"] for choice in answer["choices"]] == SAID
    assert answer["usage"] == USAGE


async def test_a_stream_names_the_choice_and_counts_all_tokens_once(
    over: tuple[httpx.AsyncClient, ScriptedOllama],
) -> None:
    client, _ = over
    body = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
    *parts, last = events((await client.post("/v1/completions", json=body)).text)
    told = {choice["index"]: choice["delta"]["content"] for part in parts for choice in part["choices"]}
    assert [told[index] for index in range(6)] == SAID
    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert not any("usage" in part for part in parts)


async def test_a_list_of_one_is_a_prompt_and_many_wait_for_one_another(
    over: tuple[httpx.AsyncClient, ScriptedOllama],
) -> None:
    client, server = over
    server.bodies.clear()
    [choice] = (await client.post("/v1/completions", json={"model": "m", "prompt": ["alone"]})).json()["choices"]
    assert (choice["message"]["content"], server.bodies[0]["prompt"]) == ("alone/None", "alone")

    server.most = 0
    server.open.clear()
    request = asyncio.create_task(client.post("/v1/completions", json={"model": "m", "prompt": PROMPTS}))
    await until(lambda: server.running >= 16, "sixteen prompts are asked at once")
    server.open.set()
    answer = (await request).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == [f"{prompt}/None" for prompt in PROMPTS]
    assert server.most == 16

    refused = await client.post("/v1/completions", json={"model": "m", "prompt": ["x"] * 129})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")
    assert "128" in refused.json()["error"]["message"]


def test_the_official_client_gets_what_it_gets_prompt_by_prompt(platform: Platform) -> None:
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as gpt:
        prompts = ["A cat is", "Two and two are", "The sea is"]
        asked: list[str | list[str]] = [prompts, *prompts]
        texts = []
        for prompt in asked:
            answer = gpt.completions.create(model="smollm2:135m", prompt=prompt, max_tokens=6, temperature=0, seed=1)
            texts.append([choice.text for choice in answer.choices])
        together, *alone = texts
        assert len(together) == len(prompts)
        assert sum([one] == single for one, single in zip(together, alone, strict=True)) >= len(prompts) - 1
