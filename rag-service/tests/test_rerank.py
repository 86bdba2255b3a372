"""Reranking: by words and meaning, and by an endpoint that is a real server."""

from typing import Any

import pytest

from tunesmith_rag.rerank import Candidate, FusedOrder, RerankEndpoint, RerankFailed, WordsAndMeaning
from tunesmith_shared.testing import free_port

from .rerank_server import reranker_at

CANDIDATES = [Candidate("cats eat fish", 0.5, 0.1, 0.03), Candidate("fault E47", 0.4, 1.0, 0.02)]


async def test_words_and_meaning_put_the_text_with_the_rare_term_first() -> None:
    scores = await WordsAndMeaning().score("E47", CANDIDATES)
    assert scores[1] > scores[0]
    assert await FusedOrder().score("E47", CANDIDATES) == [0.03, 0.02]


async def test_an_endpoint_is_asked_with_the_question_and_all_texts_and_its_scores_come_back_in_order() -> None:
    seen: list[dict[str, Any]] = []
    answer = {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": -2.5}]}
    async with reranker_at(answer, seen) as url:
        endpoint = RerankEndpoint(url, "cross-encoder", "secret", 30)
        assert await endpoint.score("E47", CANDIDATES) == [-2.5, 0.9]
        await endpoint.close()
    assert seen == [
        {
            "model": "cross-encoder",
            "query": "E47",
            "documents": ["cats eat fish", "fault E47"],
            "top_n": 2,
            "authorization": "Bearer secret",
        }
    ]


@pytest.mark.parametrize("answer", [{"results": [{"index": 0, "relevance_score": 1.0}]}, {"error": "busy"}, [1], None])
async def test_an_endpoint_without_a_score_for_every_text_or_in_time_is_a_failure_with_a_reason(answer: Any) -> None:
    async with reranker_at(answer, []) as url:
        endpoint = RerankEndpoint(url, "cross-encoder", "", 1 if answer is None else 30)
        with pytest.raises(RerankFailed, match="not reranked"):
            await endpoint.score("E47", CANDIDATES)
        await endpoint.close()


async def test_an_endpoint_that_is_not_there_is_a_failure_with_a_reason() -> None:
    endpoint = RerankEndpoint(f"http://127.0.0.1:{free_port()}", "cross-encoder", "", 30)
    with pytest.raises(RerankFailed, match="ConnectError"):
        await endpoint.score("E47", CANDIDATES)
    await endpoint.close()
