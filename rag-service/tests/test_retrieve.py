"""Retrieval: every version of a question in one request and one query of the index; what is hidden stays hidden."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest_asyncio

from tunesmith_rag.embed import OllamaEmbedder, Vector
from tunesmith_rag.evidence import COEFFICIENTS, Evidence, Thresholds
from tunesmith_rag.index import Chunk, ChunkIndex, Filter
from tunesmith_rag.index_process import IndexProcess
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.near import Matrix, Near
from tunesmith_rag.neighbours import USUAL
from tunesmith_rag.ranking import Question, Weights
from tunesmith_rag.rerank import RerankEndpoint, Reranker, WordsAndMeaning
from tunesmith_rag.retrieve import Defaults, Retriever
from tunesmith_rag.rewrite import Rewriter, Versions
from tunesmith_rag.settings import RagSettings
from tunesmith_rag.versions import Wording
from tunesmith_shared.database import Database
from tunesmith_shared.tables import Document, VectorStore
from tunesmith_shared.testing import Platform, free_port

from .rerank_server import reranker_at

STORE = VectorStore(
    id="vs-1", owner="me", name="", embedding_model="all-minilm", details={}, created_at=1, last_active_at=1
)
TEXT = "The ferry to Borkum leaves at half past nine."


class CountingIndex(ChunkIndex):
    """The real index, which counts its queries."""

    queries: int = 0

    async def search(
        self, store_id: str, vectors: Matrix, count: int, among: Sequence[str] | None = None
    ) -> list[list[Near]]:
        self.queries += 1
        return await super().search(store_id, vectors, count, among)


class CountingEmbedder(OllamaEmbedder):
    """The real embedder, which counts its requests."""

    requests: int = 0

    async def embed(self, name: str, texts: Sequence[str], patience: float) -> list[Vector]:
        self.requests += 1
        return await super().embed(name, texts, patience)


class KnownRewriter(Rewriter):
    """Writes what a small model writes now and then: two good versions, and one that means something else."""

    async def versions(self, question: str, model: str, count: int | None = None) -> Versions:  # noqa: ARG002 - fixed
        return Versions(["At what time does the ferry depart?", "When does the ferry go?", "How are cats fed?"])


@dataclass
class Bench:
    """A retriever over one store, and what it works with."""

    database: Database
    index: CountingIndex
    legs: Legs
    embedder: CountingEmbedder
    wording: Wording
    retriever: Retriever
    made: list[str] = field(default_factory=list)

    async def add(self, document_id: str, status: str, texts: list[str]) -> None:
        """Put a document with these chunks into the store."""
        async with self.database.session() as session:
            session.add(
                Document(
                    id=document_id, owner="me", vector_store_id=STORE.id, file_id=document_id, filename=document_id,
                    sha256=document_id, status=status, created_at=1, updated_at=1,
                )
            )  # fmt: skip
        chunks = [Chunk(document_id, number, 1, text) for number, text in enumerate(texts)]
        vectors = await OllamaEmbedder.embed(self.embedder, STORE.embedding_model, texts, 60)
        await self.legs.add(STORE.id, chunks, vectors, {})
        self.embedder.requests = 0


@pytest_asyncio.fixture
async def bench(engine_platform: Platform, database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    url = engine_platform.services["engine"].url
    index = CountingIndex(IndexProcess("", tmp_path, USUAL))
    database, embedder, rewriter = Database(database_url), CountingEmbedder(url, 256), KnownRewriter(url, 3, 5)
    async with database.session() as session:
        await session.merge(STORE)
    legs = Legs(index, LexicalIndex(tmp_path / "lexical"))
    wording = Wording(embedder, rewriter, patience=60, closest=0.6)
    retriever = Retriever(database, legs, wording, Defaults(WordsAndMeaning(), 0.3, Thresholds(0.2, 0.1)))
    yield Bench(database, index, legs, embedder, wording, retriever)
    await rewriter.close()
    await embedder.close()
    await database.close()
    await legs.close()


async def test_all_versions_go_into_one_query(bench: Bench) -> None:
    await bench.add("ferry", "completed", [TEXT, "Cats eat fish."])
    found = await bench.retriever.search(STORE, Question(["When does the ferry leave?"], 5, rewrite_model="any"))
    assert (bench.index.queries, bench.embedder.requests) == (1, 1)
    assert found.queries == [
        "When does the ferry leave?",
        "At what time does the ferry depart?",
        "When does the ferry go?",
    ]
    assert [result.chunk.text for result in found.data] == [TEXT, "Cats eat fish."]


async def test_chunks_of_documents_in_progress_neither_show_nor_take_places(bench: Bench) -> None:
    await bench.add("ferry", "completed", [TEXT])
    await bench.add("draft", "in_progress", [f"The ferry leaves at {minute} past nine." for minute in range(50)])
    found = await bench.retriever.search(STORE, Question(["When does the ferry leave?"], 3))
    assert [result.chunk.document_id for result in found.data] == ["ferry"]


async def test_chunks_whose_document_is_gone_are_not_shown(bench: Bench) -> None:
    await bench.add("ferry", "completed", [TEXT])
    async with bench.database.session() as session:
        await session.delete(await session.get_one(Document, "ferry"))
    assert (await bench.retriever.search(STORE, Question(["When does the ferry leave?"], 3))).data == []


async def test_a_rare_word_brings_up_what_the_meaning_alone_leaves_out(bench: Bench) -> None:
    codes = [
        f"Fault code E{number:02} means that a sensor has to be looked at by the technician." for number in range(60)
    ]
    await bench.add("faults", "completed", codes)
    question = ["What does fault code E47 mean?"]
    both = await bench.retriever.search(STORE, Question(question, 1))
    dense = await bench.retriever.search(STORE, Question(question, 60, weights=Weights(lexical=0)))
    assert both.data[0].chunk.text == codes[47]
    assert [leg.kind for leg in both.legs] == ["dense", "lexical"]
    assert [leg.kind for leg in dense.legs] == ["dense"]
    known = {result.chunk.id: result.score for result in dense.data}
    assert abs(both.data[0].score - known[both.data[0].chunk.id]) < 1e-5  # a cosine, whichever leg found it


async def test_words_of_hidden_documents_neither_show_nor_take_places(bench: Bench) -> None:
    await bench.add("ferry", "completed", [TEXT])
    await bench.add("old", "superseded", ["Borkum Borkum ferry"] * 60)
    found = await bench.retriever.search(STORE, Question(["Borkum ferry"], 3, weights=Weights(dense=0)))
    assert [result.chunk.document_id for result in found.data] == ["ferry"]
    assert {chunk.document_id for leg in found.legs for chunk, _ in leg.hits} == {"ferry"}


async def test_filters_choose_the_same_chunks_by_meaning_and_by_words(bench: Bench) -> None:
    facts: list[dict[str, Any]] = [{"year": 2024.0, "kind": "a"}, {"year": 2020.0}, {"kind": "b", "good": True}, {}]
    for number, known in enumerate(facts):
        chunks = [Chunk(f"doc-{number}", index, index + 1, TEXT) for index in range(3)]
        await bench.legs.add(STORE.id, chunks, [[1.0, 0.0]] * 3, known)
    conditions: list[tuple[Filter, str]] = [
        ({"year": {"$eq": 2024.0}}, "00 01 02"),
        ({"year": {"$ne": 2024.0}}, "10 11 12 20 21 22 30 31 32"),
        ({"year": {"$gt": 2020.0}}, "00 01 02"),
        ({"year": {"$lte": 2024.0}}, "00 01 02 10 11 12"),
        ({"year": {"$in": [2020.0, 2024.0]}}, "00 01 02 10 11 12"),
        ({"kind": {"$nin": ["a"]}}, "10 11 12 20 21 22 30 31 32"),
        ({"good": {"$eq": True}}, "20 21 22"),
        ({"page": {"$gte": 2}}, "01 02 11 12 21 22 31 32"),
        ({"document": {"$nin": ["doc-0", "doc-3"]}}, "10 11 12 20 21 22"),
        ({"$and": [{"kind": {"$eq": "a"}}, {"page": {"$lt": 3}}]}, "00 01"),
        ({"$or": [{"kind": {"$eq": "b"}}, {"index": {"$eq": 0}}]}, "00 10 20 21 22 30"),
        ({"year": {"$gt": 2024.0}}, ""),
    ]
    for where, expected in conditions:
        dense = (await bench.legs.nearest(STORE.id, np.array([[1.0, 0.0]], np.float32), 50, where))[0]
        lexical = (await bench.legs.lexical.search(STORE.id, ["ferry"], 50, where))[0]
        places = [(f"doc-{place[0]}", int(place[1])) for place in expected.split()]
        assert sorted((hit.document_id, hit.index) for hit in dense) == places, where
        few = (await bench.legs.nearest(STORE.id, np.array([[1.0, 0.0]], np.float32), 2, where))[0]
        assert len(few) == min(2, len(places)), where
        assert {(hit.document_id, hit.index) for hit in few} <= set(places), where
        assert sorted((hit.chunk.document_id, hit.chunk.index) for hit in lexical) == places, where


async def test_a_reranker_that_fails_leaves_the_fused_order_and_a_note(bench: Bench) -> None:
    await bench.add("ferry", "completed", [TEXT, "Cats eat fish.", "The ferry is blue."])
    endpoint = RerankEndpoint(f"http://127.0.0.1:{free_port()}", "cross-encoder", "", 30)
    broken = Retriever(bench.database, bench.legs, bench.wording, Defaults(endpoint, 0.0, Thresholds(0.2, 0.1)))
    found = await broken.search(STORE, Question(["When does the ferry leave?"], 3))
    await endpoint.close()
    plain = await bench.retriever.search(STORE, Question(["When does the ferry leave?"], 3, rerank=False, diversity=0))
    assert len(found.notes) == 1 and "not reranked: the endpoint gave no scores (ConnectError" in found.notes[0]
    assert found.stages.reranker == "none"
    assert [result.chunk.id for result in found.data] == [result.chunk.id for result in plain.data]


async def test_a_cross_encoder_with_a_threshold_decides_what_is_answered(bench: Bench) -> None:
    await bench.add("ferry", "completed", [TEXT, "Cats eat fish.", "The ferry is blue."])

    async def evidence(reranker: Reranker, **asked: Any) -> Evidence | None:
        retriever = Retriever(bench.database, bench.legs, bench.wording, Defaults(reranker, 0.3, Thresholds(0.2, 0.1)))
        return (await retriever.search(STORE, Question(["When does the ferry leave?"], 2, **asked))).evidence

    by_rule = await evidence(WordsAndMeaning())
    assert by_rule is not None and set(by_rule.signals) == set(COEFFICIENTS)
    scores = [{"index": place, "relevance_score": 0.4 - place} for place in range(3)]
    async with reranker_at({"results": scores}, []) as url:
        endpoint = RerankEndpoint(url, "cross-encoder", "", 30, threshold=0.3)
        assert await evidence(endpoint) == Evidence(0.4, 0.3, {"relevance": 0.4})
        stricter = await evidence(endpoint, threshold=0.5)
        assert stricter == Evidence(0.4, 0.5, {"relevance": 0.4}) and not stricter.sufficient
        assert await evidence(endpoint, threshold=0.0) is None
        assert await evidence(endpoint, rerank=False) == by_rule
        await endpoint.close()
    gone = RerankEndpoint(url, "cross-encoder", "", 30, threshold=0.3)
    assert await evidence(gone) == by_rule
    await gone.close()


async def test_words_put_the_chunk_with_the_code_first_and_the_stages_show_why(bench: Bench) -> None:
    await bench.add("codes", "completed", [f"Part 88-{number} fits the pump of the series." for number in range(30)])
    found = await bench.retriever.search(STORE, Question(["pump part 88-17"], 3))
    assert found.data[0].chunk.index == 17
    assert found.stages.reranker == "words"
    best = found.stages.reranked[0]
    assert (best.chunk.index, best.coverage) == (17, 1.0)
    assert best.relevance > found.stages.reranked[1].relevance
    assert len(found.stages.fused) == len(found.stages.reranked) == len(found.stages.diverse) == 20


async def test_evidence_tells_an_answer_from_a_question_about_something_else(bench: Bench) -> None:
    await bench.add("ferry", "completed", [TEXT, "Cats eat fish.", "The harbour is deep.", "Bread is sold on deck."])
    known = await bench.retriever.search(STORE, Question(["When does the ferry to Borkum leave?"], 3))
    other = await bench.retriever.search(STORE, Question(["Who won the world cup in football?"], 3))
    skipped = await bench.retriever.search(STORE, Question(["When?"], 3, rerank=False, threshold=0.0))
    assert known.evidence is not None and known.evidence.sufficient
    assert other.evidence is not None and other.evidence.score < known.evidence.score
    assert skipped.evidence is None


async def test_a_large_model_is_asked_on_less_evidence_and_a_threshold_of_the_request_counts_for_all(
    bench: Bench,
) -> None:
    await bench.add("ferry", "completed", [TEXT, "Cats eat fish."])

    async def threshold(**asked: Any) -> float:
        evidence = (await bench.retriever.search(STORE, Question(["When does the ferry leave?"], 1, **asked))).evidence
        assert evidence is not None
        return evidence.threshold

    assert [await threshold(), await threshold(large_model=True)] == [0.2, 0.1]
    assert await threshold(large_model=True, threshold=0.4) == 0.4


def test_a_large_model_never_needs_more_evidence_than_a_small_one() -> None:
    assert RagSettings(evidence_threshold=0.5).evidence_thresholds == Thresholds(0.5, 0.17)
    assert RagSettings(evidence_threshold=0.1).evidence_thresholds == Thresholds(0.1, 0.1)
    assert RagSettings(evidence_threshold_large=0.3).evidence_thresholds == Thresholds(0.71, 0.3)
