"""Chroma: chunks in, nearest chunks out, and nothing left after a deletion."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from tunesmith_rag.index import Chunk, ChunkIndex, open_index
from tunesmith_rag.neighbours import USUAL, Graph
from tunesmith_shared.errors import Unavailable

from .chroma_server import ChromaServer, chroma_server
from .here import Here

STORE = "vs-test"
AXES = np.eye(4, dtype=np.float32)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """One server for all tests that do not kill it; each leaves it empty."""
    with chroma_server(tmp_path_factory.mktemp("chroma")) as server:
        yield server


@pytest.fixture(params=["in a folder", "on a server"])
def url(request: pytest.FixtureRequest) -> str:
    """Where Chroma is."""
    return str(request.getfixturevalue("server").url) if request.param == "on a server" else ""


@pytest_asyncio.fixture
async def index(url: str, tmp_path: Path) -> AsyncIterator[ChunkIndex]:
    index = await open_index(url, tmp_path)
    yield index
    await index.remove_store(STORE)
    await index.close()


@pytest_asyncio.fixture
async def here(url: str, tmp_path: Path) -> AsyncIterator[Here]:
    """The same with Chroma called in this process."""
    here = Here(url, tmp_path)
    yield here
    await here.call("remove_store", STORE)
    await here.close()


def chunks(document: str, count: int) -> list[Chunk]:
    return [Chunk(document, number, number + 1, f"text {number} of {document}") for number in range(count)]


async def test_the_nearest_chunk_comes_first_for_every_vector(index: ChunkIndex) -> None:
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    found = await index.search(STORE, AXES[[2, 0]], 2)
    assert [(hits[0].document_id, hits[0].index) for hits in found] == [("doc", 2), ("doc", 0)]
    assert [round(hit.similarity, 5) for hit in found[0]] == [1, 0]
    assert np.allclose((await index.vectors(STORE, ["doc:2", "doc:9"]))["doc:2"], AXES[2])


async def test_the_usual_graph_finds_what_a_poorer_one_misses(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    vectors = chance.normal(size=(1500, 64)).astype(np.float32)
    asked = vectors[:20] + 0.5 * chance.normal(size=(20, 64)).astype(np.float32)
    likeness = (asked @ vectors.T) / np.linalg.norm(vectors, axis=1)
    nearest = [set(row[:10].tolist()) for row in np.argsort(-likeness, axis=1)]
    shares = {}
    for name, graph in {"poor": Graph(2, 8, 8), "usual": USUAL}.items():
        index = await open_index("", tmp_path / name, graph)
        await index.add(STORE, chunks("doc", len(vectors)), vectors.tolist())
        found = await index.search(STORE, asked, 10)
        await index.close()
        alike = [len(best & {hit.index for hit in hits}) / 10 for best, hits in zip(nearest, found, strict=True)]
        shares[name] = np.mean(alike)
    assert shares["usual"] >= 0.99
    assert shares["poor"] < shares["usual"]


async def test_writing_the_same_chunks_again_changes_nothing(index: ChunkIndex) -> None:
    for _ in range(2):
        await index.add(STORE, chunks("doc", 4), AXES.tolist())
    assert await index.count(STORE, "doc") == 4


async def test_among_few_and_many_chunks_the_same_are_found_with_the_same_similarity(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ChunkIndex(here)
    vectors = 3 * np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    await index.add(STORE, chunks("doc", 60), vectors.tolist())
    among = [f"doc:{number}" for number in range(0, 60, 2)]
    monkeypatch.setattr("tunesmith_rag.nearest.COMPARED", 60)
    few = await index.search(STORE, AXES[:2], 5, [*among, "doc:99"])
    monkeypatch.setattr("tunesmith_rag.nearest.COMPARED", 0)
    many = await index.search(STORE, AXES[:2], 5, among)
    likeness = AXES[:2] @ (vectors[::2] / np.linalg.norm(vectors[::2], axis=1, keepdims=True)).T
    for row, compared, asked in zip(likeness, few, many, strict=True):
        best = np.argsort(-row)[:5]
        assert [hit.index for hit in compared] == [hit.index for hit in asked] == (2 * best).tolist()
        assert np.allclose([hit.similarity for hit in compared], row[best], atol=1e-5)
        assert np.allclose([hit.similarity for hit in asked], row[best], atol=1e-5)
    assert await index.search(STORE, AXES[:2], 5, []) == [[], []]


async def test_the_nearest_of_some_documents_are_found_among_those_of_all_or_said_to_be_too_few(
    index: ChunkIndex,
) -> None:
    chance = np.random.default_rng(2)
    for name in ("one", "two", "three"):
        await index.add(STORE, chunks(name, 10), chance.normal(size=(10, 4)).astype(np.float32).tolist())
    wanted = [f"{name}:{number}" for name in ("one", "two") for number in range(10)]
    sifted = await index.sifted(STORE, AXES[:2], 5, {"one", "two"})
    assert sifted == await index.search(STORE, AXES[:2], 5, wanted)
    assert await index.sifted(STORE, AXES[:2], 8, {"one", "two"}) is not None
    assert await index.sifted(STORE, AXES[:2], 5, {"none"}) is None


@pytest.mark.parametrize("compared", [0, 100])  # asked of the graph, or compared with all
async def test_what_is_removed_after_it_was_chosen_is_left_out_and_no_damage(
    here: Here, monkeypatch: pytest.MonkeyPatch, compared: int
) -> None:
    index = ChunkIndex(here)
    monkeypatch.setattr("tunesmith_rag.nearest.COMPARED", compared)
    await index.add(STORE, chunks("gone", 4), AXES.tolist())
    await index.add(STORE, chunks("kept", 4), AXES.tolist())
    among = [f"{name}:{number}" for name in ("gone", "kept") for number in range(4)]
    await index.remove_document(STORE, "gone")
    found = await index.search(STORE, AXES[:1], 8, among)
    assert {hit.document_id for hit in found[0]} == {"kept"}
    assert await index.search(STORE, AXES[:1], 8, among[:4]) == [[]]
    await index.check()


async def test_a_removed_document_leaves_the_others(index: ChunkIndex) -> None:
    await index.add(STORE, chunks("one", 3), AXES[:3].tolist())
    await index.add(STORE, chunks("two", 3), AXES[:3].tolist())
    await index.remove_document(STORE, "one")
    assert (await index.count(STORE, "one"), await index.count(STORE, "two")) == (0, 3)


async def test_what_is_not_there_is_empty_and_can_be_removed(index: ChunkIndex) -> None:
    assert await index.search("vs-nothing", AXES[:2], 5) == [[], []]
    assert await index.count("vs-nothing", "doc") == 0
    await index.remove_document("vs-nothing", "doc")
    await index.remove_store("vs-nothing")


async def test_a_store_that_is_removed_while_it_is_asked_is_empty(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    index, client = ChunkIndex(here), here.chroma.client
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    found = client.get_collection(STORE)
    await index.remove_store(STORE)
    with monkeypatch.context() as late:
        late.setattr(client, "get_collection", lambda *_, **__: found)
        assert await index.search(STORE, AXES[:2], 5) == [[], []]
        assert await index.vectors(STORE, ["doc:1"]) == {}
        await index.remove_document(STORE, "doc")
    await index.check()


async def test_a_removed_store_leaves_no_files_after_the_next_start(tmp_path: Path) -> None:
    index = await open_index("", tmp_path)
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    await index.add("vs-kept", chunks("doc", 4), AXES.tolist())
    await index.search(STORE, AXES[:1], 1)
    await index.search("vs-kept", AXES[:1], 1)
    await index.remove_store(STORE)
    await index.close()
    index = await open_index("", tmp_path)
    assert await index.count("vs-kept", "doc") == 4
    await index.close()
    assert len([entry for entry in (tmp_path / "chroma").iterdir() if entry.is_dir()]) <= 1


async def test_a_server_that_is_away_is_said_to_be_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    with chroma_server(tmp_path) as server:
        index = await open_index(server.url, tmp_path)
        await index.add(STORE, chunks("doc", 4), AXES.tolist())
        server.kill()
        for call in (index.check, lambda: index.search(STORE, AXES[:1], 1), lambda: index.count(STORE, "doc")):
            with pytest.raises(Unavailable, match="vector database does not answer"):
                await call()
        server.start()
        assert await index.count(STORE, "doc") == 4
        await index.close()


async def test_a_server_that_is_not_there_at_the_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9"):
        await open_index("http://127.0.0.1:9", tmp_path)
