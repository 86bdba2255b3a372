"""What a refusal names instead of an answer: the passages that came closest, by file, page and one line of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_gateway.citations import Chunk, telling_sentence

_MOST, _LONGEST = 3, 160
LEAST_SIMILARITY = 0.25
"""How similar a passage must be to the question to be named: what is further away has nothing to do with it. It names
nothing for questions about something else on the tuning half of the question set, where all-minilm made the vectors
(`benchmarks/documents/quality/README.md`).
"""


@dataclass(frozen=True)
class Passage:
    """A page that came close to a question, and words on it: the sentence that shares most with the question, cut."""

    file_id: str
    filename: str
    page: int
    quote: str
    score: float


def closest_passages(question: str, chunks: Sequence[Chunk]) -> list[Passage]:
    """Return the first pages of `chunks`, which are the best first, that are near enough; a page is named once."""
    passages: dict[tuple[str, int], Passage] = {}
    for chunk in (chunk for chunk in chunks if chunk.score >= LEAST_SIMILARITY):
        place = chunk.file_id, chunk.page
        if place not in passages and len(passages) < _MOST:
            quote = _cut(telling_sentence(question, chunk.text))
            passages[place] = Passage(*(chunk.file_id, chunk.filename, chunk.page), quote, chunk.score)
    return list(passages.values())


def told(passages: Sequence[Passage]) -> str:
    """Return the passages as text, for clients that show nothing else; empty without any."""
    lines = [f'- {passage.filename}, page {passage.page}: "{passage.quote}"' for passage in passages]
    return "\n".join(["\n\nThe closest passages:", *lines]) if lines else ""


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST].rpartition(" ")[0] + " …"
