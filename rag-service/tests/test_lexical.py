"""The full-text index: rare words first, nothing left on the disk after a deletion, in step with the vectors."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith_rag.bm25 import match_expression
from tunesmith_rag.index import Chunk, ChunkIndex, open_index
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.vectors import Vectors
from tunesmith_shared.errors import Unavailable

from .here import Here

STORE = "vs-test"
VECTOR = [1.0, 0.0]


@pytest.fixture
def lexical(tmp_path: Path) -> Iterator[LexicalIndex]:
    lexical = LexicalIndex(tmp_path / "lexical")
    yield lexical
    lexical.close()


def chunks(document: str, *texts: str) -> list[Chunk]:
    return [Chunk(document, number, number + 1, text) for number, text in enumerate(texts)]


async def texts(lexical: LexicalIndex, query: str) -> list[str]:
    return [hit.chunk.text for hit in (await lexical.search(STORE, [query], 10, None))[0]]


async def test_the_chunk_with_the_rarer_word_comes_first_and_others_are_not_found(lexical: LexicalIndex) -> None:
    await lexical.add(STORE, chunks("doc", "the pump has a fuse", "the pump has a valve", "the pump", "a cat"), {})
    assert (await texts(lexical, "Which valves has the pump?"))[0] == "the pump has a valve"
    assert await texts(lexical, "elephants") == []
    scores = [hit.score for hit in (await lexical.search(STORE, ["pump valve"], 10, None))[0]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "query", ['"', "AND OR NOT", "a* (b) NEAR/2 ^c:", "text:pump -fuse", "'; DROP TABLE x", "\x00"]
)
async def test_no_question_is_taken_for_a_command(lexical: LexicalIndex, query: str) -> None:
    await lexical.add(STORE, chunks("doc", "pump"), {})
    assert len(await lexical.search(STORE, [query], 10, None)) == 1


def test_words_are_named_once_and_a_question_without_any_finds_nothing() -> None:
    assert match_expression("Pump, pump; TS-4?") == '"pump" OR "ts" OR "4"'
    assert match_expression("?!") == ""


async def test_in_a_large_store_the_rarest_words_choose_what_is_ranked_by_all(
    lexical: LexicalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lexical.add(STORE, chunks("old", *(f"a common pump number {n}" for n in range(12))), {"year": 1})
    await lexical.add(
        STORE,
        chunks("new", "a fuse that is kept in a drawer of the office", "the fuse of the common pump", "a common pump"),
        {"year": 2},
    )
    whole = await lexical.search(STORE, ["common pump fuse"], 15, None)
    monkeypatch.setattr("tunesmith_rag.bm25._MOST_RANKED", 5)
    few = await lexical.search(STORE, ["common pump fuse"], 2, None)
    assert few[0] == whole[0][:2]
    assert few[0][0].chunk.text == "the fuse of the common pump"
    # Where the rarest words alone do not give enough, all that match are ranked, as in a small store.
    assert await lexical.search(STORE, ["common pump fuse"], 15, None) == whole
    old = await lexical.search(STORE, ["common pump fuse"], 2, {"year": {"$eq": 1}})
    assert [hit.chunk.document_id for hit in old[0]] == ["old", "old"]


async def test_chunks_are_read_by_their_places_and_those_that_are_not_there_left_out(lexical: LexicalIndex) -> None:
    assert await lexical.chunks(STORE, {("doc", 0)}) == {}
    await lexical.add(STORE, chunks("doc", "a pump", "a cat"), {})
    found = await lexical.chunks(STORE, {("doc", 1), ("doc", 2), ("other", 1)})
    assert found == {("doc", 1): Chunk("doc", 1, 2, "a cat")}


async def test_accents_and_endings_do_not_matter(lexical: LexicalIndex) -> None:
    await lexical.add(STORE, chunks("doc", "Die Fähre fährt", "calibrating gauges"), {})
    assert await texts(lexical, "fahre") == ["Die Fähre fährt"]
    assert await texts(lexical, "calibrated gauge") == ["calibrating gauges"]


async def test_writing_the_same_chunks_again_changes_nothing(lexical: LexicalIndex) -> None:
    for _ in range(2):
        await lexical.add(STORE, chunks("doc", "one pump", "two pumps"), {})
    assert await lexical.count(STORE) == 2
    assert len(await texts(lexical, "pump")) == 2


async def test_a_removed_document_leaves_no_word_on_the_disk_and_the_others_in_place(
    lexical: LexicalIndex, tmp_path: Path
) -> None:
    await lexical.add(
        STORE, chunks("secret", *(f"xylophone {n} kakapo" for n in range(300))), {"filename": "zebra.pdf"}
    )
    await lexical.add(STORE, chunks("kept", "a pump"), {})
    assert len(await texts(lexical, "xylophone pump")) == 10  # and the file stays open
    await lexical.remove_document(STORE, "secret")
    content = b"".join(path.read_bytes() for path in (tmp_path / "lexical").iterdir())
    assert not any(word in content for word in (b"xylophon", b"kakapo", b"zebra"))
    assert await texts(lexical, "xylophone pump") == ["a pump"]


async def test_a_removed_store_leaves_no_file(lexical: LexicalIndex, tmp_path: Path) -> None:
    await lexical.add(STORE, chunks("doc", "pump"), {})
    await lexical.remove_store(STORE)
    assert list((tmp_path / "lexical").iterdir()) == []
    assert await texts(lexical, "pump") == []
    await lexical.remove_store(STORE)
    await lexical.remove_document(STORE, "doc")


async def test_a_damaged_file_is_reported_until_the_indexes_are_begun_anew(tmp_path: Path) -> None:
    legs = Legs(await open_index("", tmp_path), LexicalIndex(tmp_path / "lexical"))
    await legs.add(STORE, chunks("doc", "a pump", "a valve"), [VECTOR] * 2, {"filename": "a.pdf"})
    await legs.verify({STORE: 2})
    await legs.check()
    (tmp_path / "lexical" / f"{STORE}.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match=r"damaged \(.*tunesmith_rag\.rebuild"):
        await legs.lexical.search(STORE, ["pump"], 1, None)
    with pytest.raises(Unavailable, match=r"damaged \(.*tunesmith_rag\.rebuild"):
        await legs.check()
    await legs.start_anew()
    await legs.check()
    assert await legs.lexical.stores() == set()
    await legs.close()


async def test_a_file_that_was_emptied_counts_as_damaged(tmp_path: Path) -> None:
    before = LexicalIndex(tmp_path)
    await before.add(STORE, chunks("doc", "a pump", "a valve"), {})
    before.close()
    (tmp_path / f"{STORE}.sqlite3").write_bytes(b"")
    lexical = LexicalIndex(tmp_path)
    with pytest.raises(Unavailable, match="has the words of 0 of 2 chunks"):
        await lexical.verify(STORE, 2)
    lexical.close()


async def test_an_error_that_is_not_the_files_is_no_damage(
    lexical: LexicalIndex,
) -> None:
    twice = [*chunks("doc", "a pump"), *chunks("doc", "a valve")]
    with pytest.raises(sqlite3.IntegrityError):
        await lexical.add(STORE, twice, {})
    lexical.check()


async def test_lost_words_are_missed_and_those_of_stores_that_are_gone_removed(tmp_path: Path) -> None:
    legs = Legs(await open_index("", tmp_path), LexicalIndex(tmp_path / "lexical"))
    await legs.add(STORE, chunks("doc", "a pump", "a valve"), [VECTOR] * 2, {})
    await legs.lexical.add("vs-gone", chunks("doc", "pump"), {})
    await legs.tidy()
    assert await legs.lexical.stores() == {STORE}
    await legs.lexical.remove_document(STORE, "doc")
    with pytest.raises(Unavailable, match="has the words of 0 of 2 chunks"):
        await legs.verify({STORE: 2})
    with pytest.raises(Unavailable, match="has the words of 0 of 2 chunks"):
        await legs.check()
    await legs.close()


async def test_a_write_that_is_cancelled_is_over_before_its_task_so_that_a_removal_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here("", tmp_path)
    legs = Legs(ChunkIndex(here), LexicalIndex(tmp_path / "lexical"))
    begun, go_on = threading.Event(), threading.Event()
    add = Vectors.add

    def held(vectors: Vectors, *what: Any) -> None:
        begun.set()
        assert go_on.wait(60)
        add(vectors, *what)

    monkeypatch.setattr(Vectors, "add", held)
    writing = asyncio.create_task(legs.add(STORE, chunks("doc", "pump"), [VECTOR], {}))
    assert await asyncio.to_thread(begun.wait, 60)
    writing.cancel()
    for _ in range(10):
        await asyncio.sleep(0)  # the task has every chance to end
    assert not writing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await legs.dense.count(STORE, "doc") == 1
    await legs.remove_document(STORE, "doc")
    assert (await legs.dense.count(STORE, "doc"), await legs.lexical.count(STORE)) == (0, 0)
    await legs.close()


def test_function_words_are_not_searched_unless_there_are_no_others() -> None:
    assert match_expression("How often is the rain gauge calibrated?") == '"often" OR "rain" OR "gauge" OR "calibrated"'
    assert match_expression("Who is who?") == '"who" OR "is"'
