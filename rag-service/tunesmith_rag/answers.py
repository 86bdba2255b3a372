"""What a search answers: OpenAI's page of results, and on request how its order came about."""

from typing import Any

from tunesmith_rag.fusion import RANK_CONSTANT
from tunesmith_rag.index import Chunk
from tunesmith_rag.retrieve import Leg, Results
from tunesmith_shared.tables import Document

Json = dict[str, Any]


def results_page(results: Results) -> Json:
    """Return the `vector_store.search_results.page`; `notes` is an extension."""
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
    return {**page, "has_more": False, "next_page": None, "notes": results.notes}


def explanation(results: Results) -> Json:
    """Return the rankings that were fused, each with its text, weight, and chunks with ranks and scores, and the fused
    ranking; a chunk is named by its `file_id` and `index`.
    """
    fused = [
        {**_place(result.chunk, result.document), "rank": rank, "score": result.fused, "similarity": result.score}
        for rank, result in enumerate(results.data, start=1)
    ]
    return {
        "queries": results.queries,
        "legs": [_leg(leg, results.documents) for leg in results.legs],
        "fusion": {"method": "reciprocal_rank", "rank_constant": RANK_CONSTANT, "ranking": fused},
    }


def _leg(leg: Leg, documents: dict[str, Document]) -> Json:
    ranking = [
        {**_place(chunk, documents[chunk.document_id]), "rank": rank, "score": score}
        for rank, (chunk, score) in enumerate(leg.hits, start=1)
    ]
    return {"type": leg.kind, "query": leg.query, "weight": leg.weight, "ranking": ranking}


def _place(chunk: Chunk, document: Document) -> Json:
    return {"file_id": document.file_id, "index": chunk.index, "page": chunk.page}
