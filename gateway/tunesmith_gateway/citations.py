"""Which of the chunks that a model was given support its answer, and with which words.

A citation is made from what the answer says, not from what a model claims to cite: small models do not cite, and any
model can cite what is not there. A quote is always a piece of the chunk, word for word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+", re.UNICODE)
_SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[\"'(\[]?\w)|\n{2,}")
_ENDS, _CELLS = ".!?", " | "
_TOLD = re.compile(r"[.!?]$| \| ")
"""What a sentence or a table row has, and a heading has not."""
_COMMON = re.compile(
    "a|an|and|are|as|at|be|by|can|do|does|for|from|has|have|how|i|if|in|is|it|its|no|not|of|on|or|than|that|the|then|"
    "they|this|to|was|we|were|what|when|where|which|who|will|with|you|your"
)
MINIMUM_SHARE, MINIMUM_SHARE_OF_OTHERS = 0.3, 0.8
"""How much of an answer must stand in the best ranked chunk, and in any other one, to be cited.

Where retrieval and answer agree on a chunk, less of the answer has to be its words: a small model's own words are in
many chunks by chance. Chosen on the tuning half of the question set (`benchmarks/documents/quality/README.md`).
"""

MINIMUM_SHARE_OF_QUESTION, LONG_QUESTION = 0.2, 4
"""How much of a question must stand in a chunk that is cited, if the question has so many content words or more.

What a model copies from a chunk about something else is no answer. The largest share that costs no right citation on
the tuning half.
"""

NEAR_THE_BEST = 0.75
_SHORT_LINE = 0.75


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


def cite(question: str, answer: str, chunks: Sequence[Chunk]) -> list[Citation]:
    """Return a citation for each page that supports `answer`, the best supported first.

    Support is the share of the answer's content words that stand in the chunk, figures counting three times, since a
    figure is what a reader will check. The question's words count half as much: they tell a sentence about the matter
    from one that only shares a figure. Chunks without support from the answer itself, or with far less support than
    the best one, are not cited; among equals the better ranked chunk comes first.
    """
    words = Words(_weights(answer), _weights(question))
    if not words.answer:
        return []
    scored = [(words.support(chunk.text), index) for index, chunk in enumerate(chunks)]
    scored = [
        (support, index)
        for support, index in scored
        if words.share(chunks[index].text) >= _least_share(index) and words.on_the_matter(chunks[index].text)
    ]
    scored.sort(key=lambda entry: (-entry[0], entry[1]))
    citations: dict[tuple[str, int], Citation] = {}
    for support, index in scored:
        chunk = chunks[index]
        if support >= NEAR_THE_BEST * scored[0][0] and (chunk.file_id, chunk.page) not in citations:
            others = [other.text for other in chunks if (other.file_id, other.page) != (chunk.file_id, chunk.page)]
            quote = max(_own_sentences(chunk.text, others), key=words.support)
            citations[chunk.file_id, chunk.page] = Citation(chunk.file_id, chunk.filename, chunk.page, quote, index)
    return checked(list(citations.values()), chunks)


def telling_sentence(question: str, text: str, elsewhere: Sequence[str]) -> str:
    """Return the sentence of a chunk that shares most with a question, word for word; of equals one that is more than a
    heading, and no running title, which stands in the texts of other pages `elsewhere`.
    """
    words = _weights(question)
    return max(
        _own_sentences(text, elsewhere), key=lambda sentence: (_share(words, sentence), bool(_TOLD.search(sentence)))
    )


def _least_share(index: int) -> float:
    return MINIMUM_SHARE_OF_OTHERS if index else MINIMUM_SHARE


def checked(citations: Sequence[Citation], chunks: Sequence[Chunk]) -> list[Citation]:
    """Return the citations whose quote stands, word for word, in the chunk that they name."""
    return [
        citation
        for citation in citations
        if 0 <= citation.index < len(chunks)
        and (chunks[citation.index].file_id, chunks[citation.index].page) == (citation.file_id, citation.page)
        and citation.quote
        and citation.quote in chunks[citation.index].text
    ]


@dataclass(frozen=True)
class Words:
    """The content words of an answer and of its question, with their weights."""

    answer: dict[str, float]
    question: dict[str, float]

    def share(self, text: str) -> float:
        """Return how much of the answer stands in `text`, from 0 to 1."""
        return _share(self.answer, text)

    def on_the_matter(self, text: str) -> bool:
        """Say whether enough of the question stands in `text`; of a short one nothing has to."""
        return len(self.question) < LONG_QUESTION or _share(self.question, text) >= MINIMUM_SHARE_OF_QUESTION

    def support(self, text: str) -> float:
        """Return how well `text` supports the answer to this question, from 0 to 1.5."""
        return self.share(text) + 0.5 * _share(self.question, text)


def _weights(text: str) -> dict[str, float]:
    words = {word for word in _WORD.findall(text.lower()) if not _COMMON.fullmatch(word)}
    return {word: 3.0 if any(c.isdigit() for c in word) else 1.0 for word in words}


def _share(words: dict[str, float], text: str) -> float:
    there = set(_WORD.findall(text.lower()))
    return sum(weight for word, weight in words.items() if word in there) / (sum(words.values()) or 1.0)


def _own_sentences(text: str, elsewhere: Sequence[str]) -> list[str]:
    """Return the sentences of a page's text without lines that stand in texts `elsewhere`, too, and are none."""
    sentences = _sentences(text)
    return [one for one in sentences if one[-1:] in _ENDS or not any(one in other for other in elsewhere)] or sentences


def _sentences(text: str) -> list[str]:
    """Return the sentences of a page's text; a line much shorter than the others ends one, as headings do, and the row
    of a table is one.
    """
    lines = text.splitlines(keepends=True)
    full = max((len(line) for line in lines), default=0)
    passages = [""]
    for line in lines:
        row = _CELLS in line
        passages += [""] if row else []
        passages[-1] += line
        if row or len(line) < _SHORT_LINE * full:
            passages.append("")
    parts = [part.strip() for passage in passages for part in _SENTENCE.split(passage)]
    return [part for part in parts if part] or [text]
