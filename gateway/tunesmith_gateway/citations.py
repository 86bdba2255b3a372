"""Which of the chunks that a model was given support its answer, and with which words.

A citation is made from what the answer says, not from what a model claims to cite: small models do not cite, and any
model can cite what is not there. A quote is always a piece of the chunk, word for word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+", re.UNICODE)
_SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[\"'(\[]?\w)|\n{2,}")
_COMMON = re.compile(
    "a|an|and|are|as|at|be|by|can|do|does|for|from|has|have|how|i|if|in|is|it|its|no|not|of|on|or|than|that|the|then|"
    "they|this|to|was|we|were|what|when|where|which|who|will|with|you|your"
)
MINIMUM_SUPPORT = 0.2


@dataclass(frozen=True)
class Chunk:
    """A piece of a document that was found for a question. `page` counts from 1."""

    file_id: str
    filename: str
    page: int
    text: str
    score: float


@dataclass(frozen=True)
class Citation:
    """A document's page and the words on it that the answer rests on. `index` counts the chunk in the prompt from 0."""

    file_id: str
    filename: str
    page: int
    quote: str
    index: int


def cite(answer: str, chunks: Sequence[Chunk]) -> list[Citation]:
    """Return a citation for each page that supports `answer`, the best supported first.

    Support is the share of the answer's content words that stand in the chunk; numbers count three times, since a
    figure is what a reader will check. Chunks below a fifth of the best one's support, or of any, are not cited.
    """
    words = _weights(answer)
    if not words or not chunks:
        return []
    scored = sorted(((_support(words, chunk.text), index) for index, chunk in enumerate(chunks)), reverse=True)
    # Equal support goes to the chunk that retrieval ranked higher.
    scored.sort(key=lambda entry: (-entry[0], entry[1]))
    threshold = max(MINIMUM_SUPPORT, 0.75 * scored[0][0])
    citations: dict[tuple[str, int], Citation] = {}
    for support, index in scored:
        chunk = chunks[index]
        if support >= threshold and (chunk.file_id, chunk.page) not in citations:
            quote = _best_sentence(words, chunk.text)
            citations[chunk.file_id, chunk.page] = Citation(chunk.file_id, chunk.filename, chunk.page, quote, index)
    return list(citations.values())


def _weights(text: str) -> dict[str, float]:
    words = {word for word in _WORD.findall(text.lower()) if not _COMMON.fullmatch(word)}
    return {word: 3.0 if any(c.isdigit() for c in word) else 1.0 for word in words}


def _support(words: dict[str, float], text: str) -> float:
    there = set(_WORD.findall(text.lower()))
    return sum(weight for word, weight in words.items() if word in there) / sum(words.values())


def _best_sentence(words: dict[str, float], text: str) -> str:
    sentences = [part.strip() for part in _SENTENCE.split(text) if part.strip()]
    return max(sentences, key=lambda sentence: _support(words, sentence), default=text.strip())
