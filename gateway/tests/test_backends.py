"""The table of backends over HTTP: a gateway process before backends that fail when a test says so."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import openai
import orjson
import pytest
import pytest_asyncio

from tunesmith_shared.testing import platform_at

from .scripted import Json, until
from .scripted_backend import Mood, ScriptedBackend, running

SECRET = "sk-secret"
HELLO = [{"role": "user", "content": "hello"}]


@dataclass
class Table:
    """Two Ollama backends with one model, one hosted behind a key, and an address that takes no connection."""

    left: ScriptedBackend
    right: ScriptedBackend
    hosted: ScriptedBackend
    client: httpx.AsyncClient

    async def ask(self, model: str = "m", **more: object) -> httpx.Response:
        return await self.client.post("/v1/chat/completions", json={"model": model, "messages": HELLO, **more})

    def both(self, mood: Mood) -> None:
        self.left.mood = self.right.mood = mood

    @property
    def asked(self) -> int:
        """How many generations the two equal backends have seen."""
        return len(self.left.bodies) + len(self.right.bodies)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Table]:
    async with AsyncExitStack() as stack:
        left, right, hosted = [
            await stack.enter_async_context(running(backend))
            for backend in (
                ScriptedBackend("left", ("m:latest", "mine:latest")),
                ScriptedBackend("right", ("m:latest",)),
                ScriptedBackend("hosted", ("hosted/Family/Model-1", "big-1", "unwanted")),
            )
        ]
        stuck = stack.enter_context(full_listener())
        patience = {"first_byte_timeout": 1.0, "between_bytes_timeout": 0.5, "connect_timeout": 0.5}
        rows = [
            {"name": "left", "url": left.url, **patience},
            {"name": "right", "url": right.url, **patience},
            {
                "name": "hosted",
                "kind": "openai",
                "url": f"{hosted.url}/v1",
                "models": ["hosted/*", "large"],
                "renames": {"large": "big-1"},
                "api_key_env": "HOSTED_KEY",
            },
            {"name": "stuck", "url": f"http://127.0.0.1:{stuck}", "models": ["stuck"], **patience},
        ]
        settings = {"TUNESMITH_BACKENDS": json.dumps(rows), "HOSTED_KEY": SECRET}
        with platform_at(tmp_path_factory.mktemp("backends"), **settings) as platform:
            await asyncio.to_thread(platform.start, "gateway")
            headers = {"authorization": f"Bearer {platform.key}"}
            async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30) as client:
                await _checked(client)
                yield Table(left, right, hosted, client)
                assert SECRET not in (platform.data_dir / "gateway.log").read_text()


async def _checked(client: httpx.AsyncClient) -> None:
    """Wait until the first check of all backends is over: the stuck one is known to be so."""
    async with asyncio.timeout(30):
        while 'tunesmith_backend_healthy{backend="stuck"} 0.0' not in (await client.get("/metrics")).text:
            pass


class full_listener:  # noqa: N801 - used like a function
    """A port of the loopback whose queue of connections is full, so that no more are taken."""

    def __enter__(self) -> int:
        self._server = socket.socket()
        self._server.bind(("127.0.0.1", 0))
        self._server.listen(0)
        self._clients = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(self._server.getsockname())
            self._clients.append(client)
        return int(self._server.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for opened in (*self._clients, self._server):
            opened.close()


@pytest.fixture
def table(served: Table) -> Table:
    for backend in (served.left, served.right, served.hosted):
        backend.reset()
    return served


async def test_the_backend_with_the_fewest_open_requests_answers(table: Table) -> None:
    table.both("held")
    requests = [asyncio.create_task(table.ask()) for _ in range(6)]
    await until(lambda: table.left.running == table.right.running == 3, "three requests at each backend")
    table.left.open.set()
    table.right.open.set()
    said = sorted([(await request).json()["choices"][0]["message"]["content"] for request in requests])
    assert said == ["left"] * 3 + ["right"] * 3


@pytest.mark.parametrize("mood", ["busy", "cut before a byte"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_backend_that_fails_before_its_first_byte_is_passed_over(
    table: Table, mood: Mood, stream: bool
) -> None:
    for failing, other in ((table.left, "right"), (table.right, "left")):
        table.both("well")
        failing.mood = mood
        answers = [await table.ask(stream=stream) for _ in range(2)]
        assert [answer.json()["choices"][0]["message"]["content"] for answer in answers] == [other] * 2
    metrics = (await table.client.get("/metrics")).text
    assert 'tunesmith_backend_failovers_total{backend="left"}' in metrics


async def test_when_all_are_busy_the_last_one_is_heard(table: Table) -> None:
    table.both("busy")
    answer = await table.ask()
    assert (answer.status_code, table.asked) == (503, 2)
    assert "is busy" in answer.json()["error"]["message"]


async def test_after_the_first_byte_nobody_else_is_asked(table: Table) -> None:
    table.both("cut in the midst")
    answer = await table.ask(stream=True)
    piece, end = answer.text.strip().split("\n\n")
    assert orjson.loads(piece.removeprefix("data: "))["choices"][0]["delta"] == {"content": "x"}
    assert orjson.loads(end.removeprefix("data: "))["error"]["code"] == "upstream_failed"
    assert table.asked == 1


async def test_each_timeout_has_its_own_error(table: Table) -> None:
    table.both("silent")
    silent = await table.ask()
    assert (silent.status_code, silent.json()["error"]["code"]) == (504, "first_byte_timeout")
    table.both("stalled")
    events = (await table.ask(stream=True)).text.strip().split("\n\n")
    assert orjson.loads(events[-1].removeprefix("data: "))["error"]["code"] == "between_bytes_timeout"
    stuck = await table.ask("stuck")
    assert (stuck.status_code, stuck.json()["error"]["code"]) == (504, "connect_timeout")


async def test_a_model_goes_where_the_patterns_and_the_lists_say(table: Table) -> None:
    assert (await table.ask("mine")).json()["choices"][0]["message"]["content"] == "left"
    assert (await table.ask("hosted/Family/Model-1")).json()["choices"][0]["message"]["content"] == "hosted"
    assert (await table.ask("large")).json()["choices"][0]["message"]["content"] == "hosted"
    assert [body["model"] for body in table.hosted.bodies] == ["hosted/Family/Model-1", "big-1"]
    for unknown in ("hosted/other", "nosuch/../x", "a/b/c/d"):
        answer = await table.ask(unknown)
        assert answer.status_code in (400, 404), unknown
    assert len(table.hosted.bodies) == 2


async def test_every_listing_has_the_models_of_all_backends(table: Table) -> None:
    names = {"m:latest", "mine:latest", "hosted/Family/Model-1", "large"}
    plain = (await table.client.get("/list_Models")).json()["models"]
    assert {model["name"]: model["backend"] for model in plain} == {
        "m:latest": "left",
        "mine:latest": "left",
        "hosted/Family/Model-1": "hosted",
        "large": "hosted",
    }
    assert {model["name"] for model in (await table.client.get("/api/tags")).json()["models"]} == names
    async with openai.AsyncOpenAI(
        base_url=f"{table.client.base_url}/v1", api_key=table.client.headers["authorization"].split()[1]
    ) as gpt:
        assert {model.id async for model in gpt.models.list()} == names
        assert (await gpt.models.retrieve("hosted/Family/Model-1")).id == "hosted/Family/Model-1"
        with pytest.raises(openai.NotFoundError, match="Model-1"):
            await gpt.models.retrieve("nosuch")


async def test_a_hosted_backend_gets_its_key_and_nothing_of_ours(table: Table) -> None:
    answer = await table.ask("large", n=3, max_completion_tokens=5)
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1, 2]
    assert table.hosted.bodies[0]["n"] == 3
    assert table.hosted.bodies[0]["max_completion_tokens"] == 5
    sent = {name.lower(): value for name, value in table.hosted.headers[0].items()}
    assert sent["authorization"] == f"Bearer {SECRET}"
    assert "x-tunesmith-owner" not in sent


async def test_what_ollama_ignores_is_written_out_for_it(table: Table) -> None:
    await table.ask(max_completion_tokens=5)
    body = (table.left.bodies + table.right.bodies)[0]
    assert (body["max_tokens"], body["temperature"]) == (5, 0.25)
    assert "max_completion_tokens" not in body
    table.left.reset()
    table.right.reset()
    table.left.knows_n = table.right.knows_n = False
    several = (await table.ask(n=3, seed=4, temperature=1)).json()
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2]
    sent = table.left.bodies + table.right.bodies
    assert sorted(body["seed"] for body in sent) == [4, 5, 6]
    assert all(body["temperature"] == 1 for body in sent)
    assert [body["n"] for body in sent if "n" in body] == [3], "whether it is ignored shows with the first answer"


@pytest.mark.parametrize(
    ("path", "field"), [("chat/completions", "messages"), ("completions", "prompt"), ("embeddings", "input")]
)
async def test_what_ollama_would_cut_is_refused(table: Table, path: str, field: str) -> None:
    table.left.context = table.right.context = 100

    async def ask(text: str) -> httpx.Response:
        said = [{"role": "user", "content": text}] if field == "messages" else text
        return await table.client.post(f"/v1/{path}", json={"model": "m", field: said})

    for fitting in ("w", "w " * 90):
        assert (await ask(fitting)).is_success
    asked = table.asked
    answer = await ask("w " * 200)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert table.asked == asked == 2, "nothing is generated from a part of a prompt"


async def test_a_refused_key_is_the_operators_matter(table: Table) -> None:
    table.hosted.mood = "locked"
    answer = await table.ask("large")
    assert answer.status_code == 502
    assert "HOSTED_KEY" in answer.json()["error"]["message"]
    assert "sk-" not in answer.text


async def test_a_redirect_is_not_followed_with_the_key(table: Table) -> None:
    table.hosted.mood, table.hosted.elsewhere = "moved", table.left.url
    answer = await table.ask("large")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
    assert table.left.bodies == []


async def test_models_are_made_on_the_ollama_backend_alone(table: Table) -> None:
    made = {"modelName": "new", "baseModel": "large", "systemTemplate": "x"}
    answer = await table.client.post("/createModel", json=made)
    assert (answer.status_code, answer.json()["error"]["param"]) == (501, "baseModel")
    native = await table.client.post("/api/create", json={"model": "new", "from": "large"})
    assert native.status_code == 501
    assert "hosted" in native.json()["error"]


async def test_what_has_no_equivalent_is_refused_with_the_backends_name(table: Table) -> None:
    refused: list[tuple[str, Json]] = [
        ("/api/generate", {"model": "large", "prompt": "x", "raw": True}),
        ("/api/chat", {"model": "large", "messages": HELLO, "options": {"mirostat": 1}}),
    ]
    for path, body in refused:
        answer = await table.client.post(path, json=body)
        assert answer.status_code == 400
        assert "hosted" in answer.json()["error"]
    assert table.hosted.bodies == []


async def test_health_shows_each_backend_and_needs_one(table: Table) -> None:
    health = (await table.client.get("/health")).json()["dependencies"]
    assert health["model server"] == health["backend 'left'"] == health["backend 'hosted'"] == "OK"
    assert "in time" in health["backend 'stuck'"]
