"""Histories that outgrow the context, on a model server whose tokens are words."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from tunesmith_gateway.context import without_oldest
from tunesmith_shared.tables import Message
from tunesmith_shared.testing import platform_at

CONTEXT = 80


@dataclass
class WordyOllama:
    """Counts a token a word, refuses what is longer than its context, and remembers what it was asked.

    `names_numbers` is whether its refusals have the counts in them (this platform's engine) or not (Ollama).
    """

    names_numbers: bool = True
    asked: list[list[str]] = field(default_factory=list)
    probes: int = 0

    async def chat(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        words = self._words(body)
        if words > CONTEXT and body.get("truncate") is False:
            ours = f"the prompt has {words} tokens and the context holds {CONTEXT}; shorten the prompt"
            text = ours if self.names_numbers else "the input length exceeds the context length"
            return web.json_response({"error": text}, status=400)
        done = {"message": {"content": "so be it"}, "done": True, "prompt_eval_count": words, "eval_count": 3}
        if body["options"].get("num_predict") == 1:
            self.probes += 1
        else:
            self.asked.append([message["content"] for message in body["messages"]])
        return web.Response(body=orjson.dumps(done) + b"\n", content_type="application/x-ndjson")

    async def openai_chat(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        self.asked.append([message["content"] for message in body["messages"]])
        usage = {"prompt_tokens": self._words(body), "completion_tokens": 3, "total_tokens": self._words(body) + 3}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "so be it"}
            return web.json_response({"choices": [{"index": 0, "message": message}], "usage": usage})
        parts = [{"choices": [{"index": 0, "delta": {"content": "so be it"}}]}, {"choices": [], "usage": usage}]
        events = b"".join(b"data: " + orjson.dumps(part) + b"\n\n" for part in parts)
        return web.Response(body=events + b"data: [DONE]\n\n", content_type="text/event-stream")

    async def loaded(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": "m:latest", "context_length": CONTEXT}]})

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "0.0.0"})

    async def tags(self, _request: web.Request) -> web.Response:
        details = {"family": "llama", "parameter_size": "1M", "quantization_level": "F16"}
        model = {"name": "m:latest", "size": 1, "details": details, "modified_at": "2026-01-01T00:00:00Z"}
        return web.json_response({"models": [model]})

    def _words(self, body: dict[str, Any]) -> int:
        return sum(len(message["content"].split()) for message in body["messages"])


@pytest_asyncio.fixture(scope="module")
async def wordy_server() -> AsyncIterator[tuple[WordyOllama, str]]:
    server, app = WordyOllama(), web.Application()
    app.router.add_post("/api/chat", server.chat)
    app.router.add_post("/v1/chat/completions", server.openai_chat)
    app.router.add_get("/api/ps", server.loaded)
    app.router.add_get("/api/tags", server.tags)
    app.router.add_get("/api/version", server.version)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield server, site.name
    await runner.cleanup()


@pytest.fixture(params=[True, False], ids=["numbers", "no numbers"])
def wordy(request: pytest.FixtureRequest, wordy_server: tuple[WordyOllama, str]) -> WordyOllama:
    server = wordy_server[0]
    server.names_numbers, server.asked, server.probes = request.param, [], 0
    return server


@pytest_asyncio.fixture(scope="module")
async def client(
    wordy_server: tuple[WordyOllama, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    with platform_at(tmp_path_factory.mktemp("context"), TUNESMITH_OLLAMA_HOST=wordy_server[1]) as platform:
        await asyncio.to_thread(platform.start, "gateway")
        headers = {"authorization": f"Bearer {platform.key}"}
        async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30) as client:
            yield client


def question(number: int, words: int = 12) -> str:
    return " ".join([f"question{number}", *["w"] * (words - 1)])


async def plain(client: httpx.AsyncClient, session: str, prompt: str) -> dict[str, Any]:
    body = {"model": "m", "prompt": prompt, "session_id": session, "max_new_tokens": 10}
    answer: dict[str, Any] = (await client.post("/generate", json=body)).raise_for_status().json()
    return answer


async def openai_chat(client: httpx.AsyncClient, session: str, prompt: str, stream: bool) -> dict[str, Any]:
    body = {
        "model": "m", "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": prompt}],
        "session_id": session, "max_tokens": 10, "stream": stream,
    }  # fmt: skip
    answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status()
    last = answer.text.split("\n\n")[-3].removeprefix("data: ") if stream else answer.text
    extras: dict[str, Any] = orjson.loads(last)["tunesmith"]
    return extras


def check(wordy: WordyOllama, omitted: list[int], lead: int) -> None:
    """Each prompt is the lead, the newest of the history beginning with a question, and the new question."""
    said: list[str] = []
    for number, (messages, left_out) in enumerate(zip(wordy.asked, omitted, strict=True)):
        said.append(question(number))
        assert messages[lead:] == said[left_out:]
        assert left_out % 2 == 0
        assert sum(len(message.split()) for message in messages) <= CONTEXT - 10
        said.append("so be it")
    assert omitted == sorted(omitted)
    assert omitted[-1] > 0
    last = wordy.asked[-1]
    assert sum(len(message.split()) for message in last) + len(question(0).split()) + 3 > CONTEXT - 10 - 15


async def test_plain_history_is_trimmed_to_what_fits_and_counted(client: httpx.AsyncClient, wordy: WordyOllama) -> None:
    session = f"plain-{wordy.names_numbers}"
    omitted = [(await plain(client, session, question(number)))["omitted_messages"] for number in range(9)]
    check(wordy, omitted, lead=0)
    assert len((await client.get(f"/sessions/{session}")).json()["messages"]) == 18


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_history_is_trimmed_to_what_fits_and_counted(
    client: httpx.AsyncClient, wordy: WordyOllama, stream: bool
) -> None:
    session = f"openai-{wordy.names_numbers}-{stream}"
    extras = [await openai_chat(client, session, question(number), stream) for number in range(9)]
    check(wordy, [extra["omitted_messages"] for extra in extras], lead=1)


async def test_a_prompt_that_is_too_long_by_itself_is_refused(client: httpx.AsyncClient, wordy: WordyOllama) -> None:
    session = f"long-{wordy.names_numbers}"
    await plain(client, session, question(0))
    body = {"model": "m", "prompt": question(1, words=CONTEXT + 1), "session_id": session}
    assert (await client.post("/generate", json=body)).status_code == 400
    assert len((await client.get(f"/sessions/{session}")).json()["messages"]) == 2


async def test_a_short_history_costs_no_question(client: httpx.AsyncClient, wordy: WordyOllama) -> None:
    session = f"short-{wordy.names_numbers}"
    for _ in range(2):
        await plain(client, session, "hi")
    assert wordy.probes == 0


def test_the_oldest_go_first_and_a_question_stays_first() -> None:
    rows = [Message(id=str(n), role=role, content="x", tokens=10) for n, role in enumerate(["user", "assistant"] * 3)]
    assert [row.id for row in without_oldest(rows, 1)] == ["2", "3", "4", "5"]
    assert [row.id for row in without_oldest(rows, 21)] == ["4", "5"]
    assert without_oldest(rows, 1000) == []
