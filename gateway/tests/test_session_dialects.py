"""One session through every dialect, before a scripted model server that shows what it was asked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from tunesmith_shared.testing import platform_at

from .scripted import Json, ScriptedOllama, scripted_ollama, until

Over = tuple[httpx.AsyncClient, ScriptedOllama]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Over]:
    async with scripted_ollama() as server:
        with platform_at(tmp_path_factory.mktemp("sessions"), TUNESMITH_OLLAMA_HOST=server.url) as platform:
            await asyncio.to_thread(platform.start, "gateway")
            headers = {"authorization": f"Bearer {platform.key}"}
            async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30) as client:
                yield client, server


@pytest_asyncio.fixture(loop_scope="session")
async def over(running: Over) -> Over:
    running[1].reset()
    running[1].reply = lambda body: f"answer to {body['messages'][-1]['content']}"
    return running


def request(dialect: str, text: str, session: str) -> tuple[str, Json]:
    messages = [{"role": "user", "content": text}]
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        "openai": ("/v1/chat/completions", {"model": "m", "messages": messages}),
        "chat": ("/api/chat", {"model": "m", "messages": messages, "stream": False}),
        "generate": ("/api/generate", {"model": "m", "prompt": text, "stream": False}),
        "plain": ("/generate", {"model": "m", "prompt": text}),
    }
    path, body = requests[dialect]
    return path, {**body, "session_id": session}


async def test_a_session_goes_on_from_dialect_to_dialect(over: Over) -> None:
    client, server = over
    dialects = ["openai", "chat", "generate", "plain", "chat"]
    said: list[str] = []
    for number, dialect in enumerate(dialects):
        path, body = request(dialect, f"question {number}", "through")
        answer = await client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert f"answer to question {number}" in answer.text
        said += [f"question {number}", f"answer to question {number}"]
        asked = [message["content"] for message in server.bodies[-1]["messages"]]
        assert asked == said[:-1]
    kept = (await client.get("/sessions/through")).json()["messages"]
    assert [message["content"] for message in kept] == said
    cleared = await client.request("DELETE", "/clear_session", json={"session_id": "through"})
    assert cleared.json()["deleted_messages"] == len(said)


@pytest.mark.parametrize(("path", "field"), [("/api/chat", "message"), ("/api/generate", "response")])
async def test_a_native_answer_has_its_routes_shape_and_says_what_was_added(over: Over, path: str, field: str) -> None:
    client, _ = over
    name = "chat" if field == "message" else "generate"
    answer: Json = (await client.post(path, json=request(name, "x", f"shape-{name}")[1])).json()
    text = answer[field]["content"] if field == "message" else answer[field]
    assert (text, answer["done"]) == ("answer to x", True)
    assert answer["tunesmith"] == {"session_id": f"shape-{name}", "omitted_messages": 0}
    streamed = await client.post(path, json={**request(name, "y", f"shape-{name}")[1], "stream": True})
    assert streamed.headers["content-type"].startswith("application/x-ndjson")
    assert orjson.loads(streamed.text.splitlines()[-1])["tunesmith"]["session_id"] == f"shape-{name}"


async def test_turns_of_one_session_wait_for_each_other_whatever_their_dialect(over: Over) -> None:
    client, server = over
    server.open.clear()
    order = ["openai", "chat", "generate", "plain"]
    turns = []
    for number, dialect in enumerate(order):
        path, body = request(dialect, f"turn {number}", "ordered")
        turns.append(asyncio.create_task(client.post(path, json=body)))
        shown = f'tunesmith_generations{{state="running"}} {number + 1:.1f}'

        async def there(shown: str = shown) -> None:
            while shown not in (await client.get("/metrics")).text:
                pass

        await asyncio.wait_for(there(), 20)
        await until(lambda: server.running == 1, "the first turn runs, and the others wait")
    assert server.most == 1
    server.open.set()
    assert {answer.status_code for answer in await asyncio.gather(*turns)} == {200}
    assert server.most == 1
    kept = [message["content"] for message in (await client.get("/sessions/ordered")).json()["messages"]]
    assert kept[0] == "turn 0"
    assert sorted(kept[::2]) == [f"turn {number}" for number in range(4)]
    assert kept[1::2] == [f"answer to {text}" for text in kept[::2]]


async def test_a_session_id_that_is_no_name_is_refused(over: Over) -> None:
    client, server = over
    for session in ("../x", "", 7, "a b"):
        refused = await client.post("/api/chat", json={**request("chat", "x", "s")[1], "session_id": session})
        assert refused.status_code == 400, session
    assert server.bodies == []
