"""Both embedders give the same vectors, and one rule decides between them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tunesmith_rag import bert_graph, embed_openvino
from tunesmith_rag.embed import OllamaEmbedder
from tunesmith_rag.embed_choice import ChosenEmbedder, Way
from tunesmith_rag.embed_openvino import OpenVinoEmbedder
from tunesmith_rag.pdf import read_pages
from tunesmith_rag.settings import RagSettings
from tunesmith_shared.errors import UpstreamFailed
from tunesmith_shared.testing import Platform

HANDBOOK = Path(__file__).resolve().parents[2] / "examples" / "handbook.pdf"
ODD = [
    "x",
    "The quick brown fox, jumps! 12345.678",
    "naïve façade, ünïcödé",
    "数字と漢字 中文",
    "Привет мир",
    "a\tb\nc",
]
PATIENCE = 60.0


@pytest.fixture(scope="module")
async def here() -> AsyncIterator[OpenVinoEmbedder]:
    embedder = OpenVinoEmbedder(256, 8, 0)
    yield embedder
    await embedder.close()


@pytest.fixture(scope="module")
async def server(engine_platform: Platform) -> AsyncIterator[OllamaEmbedder]:
    embedder = OllamaEmbedder(engine_platform.services["engine"].url, 256)
    yield embedder
    await embedder.close()


async def test_the_vectors_are_those_of_the_model_server(here: OpenVinoEmbedder, server: OllamaEmbedder) -> None:
    pages = [page.text for page in read_pages(HANDBOOK, 100)]
    texts = [*ODD, *(text[:500] for text in pages), *(text[-90:] for text in pages)]
    one, other = [np.array(await embedder.embed("all-minilm", texts, PATIENCE)) for embedder in (here, server)]
    assert np.linalg.norm(one, axis=1) == pytest.approx(1, abs=1e-5)
    assert (one * other).sum(axis=1).min() > 0.999


async def test_both_say_the_same_of_the_model(here: OpenVinoEmbedder, server: OllamaEmbedder) -> None:
    one, other = [await embedder.model("all-minilm", PATIENCE) for embedder in (here, server)]
    assert (one.name, one.max_tokens) == (other.name, other.max_tokens)
    assert [one.count(text) for text in ODD] == [other.count(text) for text in ODD]


async def test_a_vector_does_not_depend_on_the_texts_beside_it(here: OpenVinoEmbedder) -> None:
    texts = ["short", "a text that is somewhat longer than the others " * 4, "of middle length, no more"] * 5
    together = np.array(await here.embed("all-minilm", texts, PATIENCE))
    alone = np.array([(await here.embed("all-minilm", [text], PATIENCE))[0] for text in texts[:3]])
    assert (together * np.tile(alone, (5, 1))).sum(axis=1).min() > 0.9999


def test_a_batch_is_what_keeps_one_processor_busy_and_no_more() -> None:
    lengths = [3, 200, 90, 4, 256, 80, 5, 85, 3] * 4
    batches = embed_openvino._batches(lengths, 8)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    padded = [len(batch) * embed_openvino._padded(max(lengths[number] for number in batch)) for batch in batches]
    assert max(map(len, batches)) == 8
    assert max(padded) <= 384
    assert sum(padded) < 1.15 * sum(lengths)
    assert padded[0] == 256  # the longest first, alone: two are more than 384


async def test_no_text_is_cut(here: OpenVinoEmbedder) -> None:
    with pytest.raises(UpstreamFailed, match="has 302 tokens, and all-minilm takes 256"):
        await here.embed("all-minilm", ["why " * 300], PATIENCE)


async def test_a_load_that_was_cut_off_or_failed_is_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = OpenVinoEmbedder(256, 8, 1)
    monkeypatch.setattr(bert_graph, "graph_of", lambda _: b"no model")
    with pytest.raises(RuntimeError):
        await embedder.prepare("all-minilm")
    monkeypatch.undo()
    preparing = asyncio.create_task(embedder.prepare("all-minilm"))
    await asyncio.sleep(0)  # begun, and not done
    preparing.cancel()
    assert len((await embedder.embed("all-minilm", ["hello"], PATIENCE))[0]) == 384
    assert preparing.cancelled()
    await embedder.close()


class Counting:
    """A model server that only says whether it has a GPU, and counts what it is asked to embed."""

    def __init__(self, vram: int | None) -> None:
        self.embedded = 0
        self._vram = vram

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/ps":
            if self._vram is None:
                raise httpx.ConnectError("nobody there")
            return httpx.Response(200, json={"models": [{"name": "chat", "size_vram": self._vram}]})
        self.embedded += 1
        return httpx.Response(200, json={"embeddings": [[1.0, 0.0]]})


async def test_a_search_at_the_model_server_waits_for_one_request_of_documents_at_the_most() -> None:
    asked: asyncio.Queue[list[str]] = asyncio.Queue()
    answering = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.content)["input"]
        asked.put_nowait(texts)
        await answering.wait()
        return httpx.Response(200, json={"embeddings": [[1.0, 0.0]] * len(texts)})

    server = OllamaEmbedder("http://server", 256, batch=2)
    server._client._client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://server")
    async with asyncio.TaskGroup() as group:
        windows = [group.create_task(server.embed("all-minilm", [name] * 4, 0)) for name in ("one", "two")]
        assert await asked.get() == ["one", "one"]
        question = group.create_task(server.embed("all-minilm", ["question"], 0))
        assert await asked.get() == ["question"]  # and not the other document's
        answering.set()
    assert [len(task.result()) for task in (*windows, question)] == [4, 4, 1]


@pytest.mark.parametrize(
    ("way", "name", "vram", "at_server"),
    [
        ("auto", "all-minilm", 0, False),
        ("auto", "all-minilm", None, False),
        ("auto", "all-minilm", 10**9, True),
        ("in_process", "all-minilm", 10**9, False),
        ("ollama", "all-minilm", 0, True),
        ("in_process", "nomic-embed-text", 0, True),
    ],
)
async def test_who_embeds(here: OpenVinoEmbedder, way: Way, name: str, vram: int | None, at_server: bool) -> None:
    fake = Counting(vram)
    server = OllamaEmbedder("http://server", 256)
    server._client._client = httpx.AsyncClient(transport=httpx.MockTransport(fake.answer), base_url="http://server")
    (vector,) = await ChosenEmbedder(way, here, server).embed(name, ["hello"], 0)
    assert (fake.embedded, len(vector)) == ((1, 2) if at_server else (0, 384))


async def test_without_the_package_the_model_server_embeds(
    monkeypatch: pytest.MonkeyPatch, here: OpenVinoEmbedder
) -> None:
    monkeypatch.setattr(embed_openvino, "packaged", lambda _: None)
    fake = Counting(0)
    server = OllamaEmbedder("http://server", 256)
    server._client._client = httpx.AsyncClient(transport=httpx.MockTransport(fake.answer), base_url="http://server")
    await ChosenEmbedder("in_process", here, server).embed("all-minilm", ["hello"], 0)
    assert fake.embedded == 1


def test_the_former_name_of_in_process_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNESMITH_EMBEDDER", "onnx")
    assert RagSettings(data_dir=tmp_path).embedder == "in_process"
