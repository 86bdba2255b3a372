"""What a search answers: OpenAI's page of results, and on request how its order came about."""

from collections.abc import Sequence
from typing import Any

from tunesmith_rag.evidence import Evidence
from tunesmith_rag.fusion import RANK_CONSTANT
from tunesmith_rag.index import Chunk
from tunesmith_rag.ranking import Leg, Result, Results, Stages
from tunesmith_shared.tables import Document

Json = dict[str, Any]


def results_page(results: Results) -> Json:
    """Return the `vector_store.search_results.page`; `evidence` and `notes` are extensions."""
    data = [
        {
            "file_id": result.document.file_id,
            "filename": result.document.filename,
            "score": round(result.score, 6),
            "attributes": {**result.document.attributes, "page": result.chunk.page, "index": result.chunk.index},
            "content": [{"type": "text", "text": result.chunk.text}],
        }
        for result in results.data
    ]
    page: Json = {"object": "vector_store.search_results.page", "search_query": results.queries, "data": data}
    extensions = {"evidence": _evidence(results.evidence), "notes": results.notes}
    return {**page, "has_more": False, "next_page": None, **extensions}


def explanation(results: Results) -> Json:
    """Return the rankings that were fused, each with its text, weight, and chunks with ranks and scores, and the order
    after every stage; a chunk is named by its `file_id` and `index`.
    """
    stages = results.stages
    return {
        "queries": results.queries,
        "legs": [_leg(leg, results.documents) for leg in results.legs],
        "fusion": {
            "method": "reciprocal_rank",
            "rank_constant": RANK_CONSTANT,
            "ranking": [
                {**place, "score": result.fused, "similarity": result.score} for place, result in _ranked(stages.fused)
            ],
        },
        "rerank": {
            "method": stages.reranker,
            "ranking": [
                {**place, "score": result.relevance, "coverage": result.coverage}
                for place, result in _ranked(stages.reranked)
            ],
        },
        "diversity": {"weight": stages.diversity, "ranking": [place for place, _ in _ranked(stages.diverse)]},
        "threshold": _threshold(stages),
        "evidence": _evidence(results.evidence),
    }


def _evidence(evidence: Evidence | None) -> Json | None:
    if evidence is None:
        return None
    signals = {name: round(value, 4) for name, value in evidence.signals.items()}
    score = round(evidence.score, 4)
    return {"score": score, "threshold": evidence.threshold, "sufficient": evidence.sufficient, "signals": signals}


def _threshold(stages: Stages) -> Json:
    return {"below": [_place(result.chunk, result.document) for result in stages.below_threshold]}


def _ranked(results: Sequence[Result]) -> list[tuple[Json, Result]]:
    return [
        ({**_place(result.chunk, result.document), "rank": rank}, result)
        for rank, result in enumerate(results, start=1)
    ]


def _leg(leg: Leg, documents: dict[str, Document]) -> Json:
    ranking = [
        {**_place(chunk, documents[chunk.document_id]), "rank": rank, "score": score}
        for rank, (chunk, score) in enumerate(leg.hits, start=1)
    ]
    return {"type": leg.kind, "query": leg.query, "weight": leg.weight, "ranking": ranking}


def _place(chunk: Chunk, document: Document) -> Json:
    return {"file_id": document.file_id, "index": chunk.index, "page": chunk.page}
