"""Load held: clients that leave, read slowly or send too much, on real processes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
from aiohttp import web

from tunesmith_shared.testing import Platform, platform_at, wait_until

from .scripted import until, version

Json = dict[str, Any]

MODEL = "smollm2:135m"
NUMBERS = {"type": "array", "items": {"type": "integer"}, "minItems": 2000}  # takes minutes to write
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": NUMBERS}}
ASKED = [{"role": "user", "content": "Count."}]
LONG = [{"role": "user", "content": "one two three four five six seven " * 400}]  # takes seconds to read
MIB = 2**20
A_SECONDS_TOKENS = 100  # what two cores write, of the thousands that are asked for


def slots(platform: Platform) -> list[Json]:
    """What llama.cpp tells of the slots of every loaded model."""
    engine = platform.services["engine"].process
    assert engine is not None
    told: list[Json] = []
    for child in psutil.Process(engine.pid).children(recursive=True):
        words = child.cmdline()
        if "tunesmith_engine.runner" in words:
            path = words[words.index("tunesmith_engine.runner") + 1]
            with httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=60) as runner:
                told += [{**slot, "runner": path} for slot in runner.get("http://model/slots").json()]
    return told


def busy(platform: Platform) -> int:
    """How many of llama.cpp's slots generate, by its own account."""
    return sum(slot["is_processing"] for slot in slots(platform))


def written(platform: Platform) -> dict[tuple[str, int], int]:
    """The tokens, prompt and answer, of each generation that runs, or was the last of its slot."""
    asked = [slot for slot in slots(platform) if "id_task" in slot]
    return {(slot["runner"], slot["id_task"]): slot["n_prompt_tokens"] for slot in asked}


@pytest.fixture
def idle(platform: Platform) -> Iterator[Platform]:
    """The platform with its chat model loaded and nothing to do."""
    headers = {"authorization": f"Bearer {platform.key}"}
    body = {"model": MODEL, "messages": ASKED, "max_tokens": 1}
    httpx.post(f"{platform.url}/v1/chat/completions", json=body, headers=headers, timeout=120).raise_for_status()
    wait_until(lambda: busy(platform) == 0, 60, "nothing generates")
    yield platform


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": ASKED, "response_format": AS_SCHEMA}),
        ("/v1/chat/completions", {"messages": ASKED, "response_format": AS_SCHEMA, "session_id": "leaving"}),
        ("/api/chat", {"messages": ASKED, "format": NUMBERS}),
    ],
)
async def test_a_client_that_leaves_stops_the_generation(idle: Platform, path: str, body: Json, stream: bool) -> None:
    """In a stream after the first token, in a whole answer while it is made: hardly a token more is written."""
    async with httpx.AsyncClient(base_url=idle.url, headers={"authorization": f"Bearer {idle.key}"}) as client:
        asked = {"model": MODEL, "stream": stream, "options": {"num_predict": -1}, "max_tokens": 4000, **body}
        if stream:
            async with client.stream("POST", path, json=asked, timeout=120) as response:
                pieces = response.aiter_bytes()  # held: an iterator that is dropped closes the connection
                assert b"error" not in await anext(pieces)
                await asyncio.to_thread(wait_until, lambda: busy(idle) == 1, 60, "it generates")
                before = written(idle)
        else:
            request = asyncio.create_task(client.post(path, json=asked, timeout=120))
            await asyncio.to_thread(wait_until, lambda: busy(idle) == 1, 60, "it generates")
            before = written(idle)
            request.cancel()
    await asyncio.to_thread(wait_until, lambda: busy(idle) == 0, 30, "the generation stopped")
    after = written(idle)
    assert set(after) == set(before)
    assert 0 < sum(after.values()) < sum(before.values()) + A_SECONDS_TOKENS


async def test_a_client_that_leaves_before_the_first_token_stops_the_reading_of_its_prompt(idle: Platform) -> None:
    async with httpx.AsyncClient(base_url=idle.url, headers={"authorization": f"Bearer {idle.key}"}) as client:
        asked = {"model": MODEL, "messages": LONG, "stream": True, "response_format": AS_SCHEMA}
        request = asyncio.create_task(client.post("/v1/chat/completions", json=asked, timeout=120))
        await asyncio.to_thread(wait_until, lambda: busy(idle) == 1, 60, "the prompt is read")
        request.cancel()
    await asyncio.to_thread(wait_until, lambda: busy(idle) == 0, 40, "the reading stopped")


@dataclass
class Torrent:
    """A model server that streams without an end, as fast as it is read, and counts what it got rid of."""

    sent: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        line = b'data: {"choices": [{"delta": {"content": "' + b"x" * 4000 + b'"}}]}\n\n'
        try:
            while True:
                await response.write(line)
                self.sent += len(line)
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def torrent() -> AsyncIterator[tuple[Torrent, str]]:
    server, app = Torrent(), web.Application()
    app.router.add_get("/api/version", version)
    app.router.add_post("/v1/chat/completions", server.stream)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield server, site.name
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(torrent: tuple[Torrent, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """A gateway before the torrent that takes uploads of one MiB."""
    settings = {"TUNESMITH_OLLAMA_HOST": torrent[1], "TUNESMITH_UPLOAD_LIMIT_MB": "1"}
    with platform_at(tmp_path_factory.mktemp("small"), **settings) as platform:
        await asyncio.to_thread(platform.start, "gateway")
        yield platform


def size_of(platform: Platform) -> int:
    process = platform.services["gateway"].process
    assert process is not None
    return int(psutil.Process(process.pid).memory_info().rss)


def head(platform: Platform, path: str, *lines: str) -> bytes:
    authorization = f"authorization: Bearer {platform.key}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", authorization, *lines, "", ""]).encode()


def connected(platform: Platform) -> socket.socket:
    host, port = platform.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


async def test_a_reader_of_few_bytes_costs_a_bounded_buffer(small: Platform, torrent: tuple[Torrent, str]) -> None:
    server, before = torrent[0], size_of(small)
    body = b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": true}'
    with closing(connected(small)) as reader:
        reader.sendall(head(small, "/v1/chat/completions", f"content-length: {len(body)}") + body)
        await until(lambda: server.sent > 0, "the stream began")
        for _ in range(3):  # each time a byte is read and everything in between has filled up
            assert await asyncio.to_thread(reader.recv, 1)
            sent = -1
            async with asyncio.timeout(60):
                while sent != server.sent:
                    sent = server.sent
                    await asyncio.sleep(0.3)
        assert server.sent < 64 * MIB
        assert size_of(small) - before < 32 * MIB
    await asyncio.wait_for(server.left.wait(), 20)


def kept(platform: Platform) -> tuple[list[Any], list[str]]:
    """The files that the gateway lists, and those that lie in its folder."""
    headers = {"authorization": f"Bearer {platform.key}"}
    listed = httpx.get(f"{platform.url}/v1/files", headers=headers).json()["data"]
    return listed, [path.name for path in (platform.data_dir / "files").rglob("*") if path.is_file()]


def form(size: int) -> bytes:
    opened = '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    opened += '--b\r\ncontent-disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
    return opened.encode() + bytes(size) + b"\r\n--b--\r\n"


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_over_the_limit_is_refused_in_flat_memory(small: Platform, declared: bool) -> None:
    before = size_of(small)
    content = form(16 * MIB)

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(content), 65536):
            yield content[at : at + 65536]

    headers = {"authorization": f"Bearer {small.key}", "content-type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{small.url}/v1/files", content=content if declared else chunks(), headers=headers, timeout=60)
    assert (answer.status_code, "1 MiB" in answer.text) == (413, True), answer.text
    assert kept(small) == ([], [])
    assert size_of(small) - before < 12 * MIB


def test_ten_thousand_form_parts_are_refused(small: Platform) -> None:
    part = '--b\r\ncontent-disposition: form-data; name="x{}"\r\n\r\n1\r\n'
    content = "".join(map(part.format, range(10_000))) + "--b--\r\n"
    headers = {"authorization": f"Bearer {small.key}", "content-type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{small.url}/v1/files", content=content.encode(), headers=headers, timeout=60)
    assert answer.status_code == 400
    assert "1000" in answer.json()["error"]["message"]
    assert kept(small) == ([], [])


def test_an_upload_that_is_cut_leaves_nothing(small: Platform) -> None:
    content = form(MIB // 2)

    def refused() -> float:
        shown = httpx.get(f"{small.url}/metrics", headers={"authorization": f"Bearer {small.key}"}).text
        counted = [line for line in shown.splitlines() if line.startswith("tunesmith_requests_total{")]
        return sum(float(line.split()[-1]) for line in counted if '"/v1/files"' in line and '"POST"' in line)

    before = refused()
    with closing(connected(small)) as connection:
        lines = ["content-type: multipart/form-data; boundary=b", f"content-length: {len(content)}"]
        connection.sendall(head(small, "/v1/files", *lines) + content[: len(content) // 2])
    wait_until(lambda: refused() > before, 30, "the gateway noticed that the client left")
    assert kept(small) == ([], [])
