"""Chunks ranked by the words that they share with a question: BM25, as SQLite's full-text index (FTS5) has it.

The score takes the words' rarity in the store and the chunk's length into account: https://sqlite.org/fts5.html#the_bm25_function.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tunesmith_rag.filters import holds
from tunesmith_rag.index import DOCUMENT, INDEX, PAGE, Chunk, Filter
from tunesmith_rag.terms import frequencies, telling_words, words_of

_RANKED = "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank"
_RANKED_AMONG = """
SELECT rowid, -bm25(words) AS score FROM words
WHERE words MATCH ? AND +rowid IN (SELECT rowid FROM words WHERE words MATCH ?) ORDER BY score DESC
"""
_CHUNK = """
SELECT chunks.document, chunks.position, chunks.page, chunks.text, documents.facts
FROM chunks JOIN documents ON documents.id = chunks.document WHERE chunks.number = ?
"""
_MOST_WORDS = 64
_MOST_RANKED = 5000


@dataclass(frozen=True)
class WordHit:
    """A chunk that shares words with a question, and its BM25 score: 0 and up, comparable within one search only."""

    chunk: Chunk
    score: float


def ranked(connection: sqlite3.Connection, text: str, count: int, where: Filter | None) -> list[WordHit]:
    """Return the best chunks that have any of the words in `text`.

    In a large store only those that have one of the rarest are ranked first, by all words: ranking takes time for every
    chunk, common words match a share of all, and what has none of the rarest is hardly ever among the best.
    """
    expression = match_expression(text)
    if not expression:
        return []
    if rarest := _rarest(connection, text):
        ranked = connection.execute(_RANKED_AMONG, (expression, _any_of(rarest)))
        hits = _checked(connection, ranked, count, where)
        if len(hits) == count:
            return hits
    return _checked(connection, connection.execute(_RANKED, (expression,)), count, where)


def _rarest(connection: sqlite3.Connection, text: str) -> list[str]:
    """Return the rarest words that together match `_MOST_RANKED` chunks at the most; none when all may be ranked."""
    (size,) = connection.execute("SELECT coalesce(max(number), 0) FROM chunks").fetchone()
    if size <= _MOST_RANKED:
        return []
    counts = frequencies(connection, _asked(text))
    order = sorted(counts, key=lambda word: counts[word])
    sums = accumulate(counts[word] for word in order)
    few = [word for word, matched in zip(order, sums, strict=True) if matched <= _MOST_RANKED]
    return few if len(few) < len(order) and any(counts[word] for word in few) else []


def _checked(
    connection: sqlite3.Connection, ranked: Iterable[tuple[int, float]], count: int, where: Filter | None
) -> list[WordHit]:
    """Return the first `count` chunks that fulfil the condition, which is checked from the best hit on."""
    hits: list[WordHit] = []
    # Ranked by number alone: joining all that match would read their texts, and most have only one of the words.
    for number, score in ranked:
        if len(hits) == count:
            break
        document, position, page, words, facts = connection.execute(_CHUNK, (number,)).fetchone()
        own = {DOCUMENT: document, INDEX: position, PAGE: page}
        if where is None or holds(where, {**json.loads(facts), **own}):
            hits.append(WordHit(Chunk(document, position, page, words), float(score)))
    return hits


def match_expression(text: str) -> str:
    """Return FTS5's expression for any of the words in `text`, quoted so that none is taken for an operator.

    Function words are left out where there are others: nearly every chunk has one, and ranking all of them takes time
    in proportion to the store.
    """
    return _any_of(_asked(text))


def _asked(text: str) -> list[str]:
    return (telling_words(text) or words_of(text))[:_MOST_WORDS]


def _any_of(words: Sequence[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)
