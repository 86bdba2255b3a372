"""What a refusal gives instead of an answer: the passages that came closest, by file, page and the words on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_gateway.citations import Chunk, Citation, telling_sentence

NOT_IN_THE_DOCUMENTS = "The documents do not say. Nothing in them answers this question."
"""What is said of a question about something else, which no passage comes near."""

NOT_FOR_CERTAIN = "The documents may not answer this question, so the model was not asked."
"""What is said when passages come near: they may hold the answer, and a reader sees that sooner than a small model."""

_CLOSEST = "\n\nThese passages come closest; the answer may be in them:\n"
_ALL_THE_SAME = (
    'To have the model answer from them all the same, ask again with retrieval: {"threshold": 0}, on the command line '
    "with --threshold 0."
)
_MOST, _LONGEST = 3, 160
LEAST_SIMILARITY = 0.25
"""How similar a passage must be to the question to be named: what is further away has nothing to do with it. It names
nothing for questions about something else on the tuning half of the question set, where all-minilm made the vectors
(`benchmarks/documents/quality/README.md`).
"""


@dataclass(frozen=True)
class Passage:
    """A page that came close to a question, and words on it: the sentence that shares most with the question."""

    file_id: str
    filename: str
    page: int
    quote: str
    score: float

    @property
    def line(self) -> str:
        """The quote on one line, cut to what a person reads at a glance."""
        line = " ".join(self.quote.split())
        return line if len(line) <= _LONGEST else line[:_LONGEST].rpartition(" ")[0] + " …"


def closest_passages(question: str, chunks: Sequence[Chunk]) -> list[Passage]:
    """Return the first pages of `chunks`, which are the best first, that are near enough; a page is named once."""
    passages: dict[tuple[str, int], Passage] = {}
    for chunk in (chunk for chunk in chunks if chunk.score >= LEAST_SIMILARITY):
        place = chunk.file_id, chunk.page
        if place not in passages and len(passages) < _MOST:
            quote = telling_sentence(question, chunk.text)
            passages[place] = Passage(chunk.file_id, chunk.filename, chunk.page, quote, chunk.score)
    return list(passages.values())


def cited(passages: Sequence[Passage]) -> list[Citation]:
    """Return the passages as citations; `index` counts the passages."""
    return [Citation(one.file_id, one.filename, one.page, one.quote, index) for index, one in enumerate(passages)]


def opening(passages: Sequence[Passage]) -> str:
    """Return the sentence that a refusal begins with, which has no words of a document in it."""
    return NOT_FOR_CERTAIN if passages else NOT_IN_THE_DOCUMENTS


def told(passages: Sequence[Passage]) -> str:
    """Return the whole refusal as text, for clients that show nothing else."""
    if not passages:
        return NOT_IN_THE_DOCUMENTS
    lines = [f'- {passage.filename}, page {passage.page}: "{passage.line}"' for passage in passages]
    return "".join([NOT_FOR_CERTAIN, _CLOSEST, "\n".join(lines), "\n\n", _ALL_THE_SAME])


def is_refusal(text: str) -> bool:
    """Say whether a message is a refusal, as it was answered or as a session keeps it."""
    return text in (NOT_IN_THE_DOCUMENTS, NOT_FOR_CERTAIN) or text.startswith(NOT_FOR_CERTAIN + _CLOSEST)


def unrefused(said: Sequence[tuple[str, str]]) -> list[int]:
    """Return the places of the messages (role and text) that are no part of a refused exchange.

    Neither refusals nor what they refused are shown to a model again: a small one takes them for the way to answer.
    """
    kept: list[int] = []
    for place, (role, text) in enumerate(said):
        if role == "assistant" and is_refusal(text):
            while kept and said[kept[-1]][0] == "user":
                kept.pop()
        else:
            kept.append(place)
    return kept
