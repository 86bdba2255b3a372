"""What a grounded answer stands on: excerpts from documents and vector stores, as many as the model's context takes."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tunesmith_gateway.citations import Chunk
from tunesmith_gateway.closest import Passage, closest_passages, opening, told
from tunesmith_gateway.context import ContextFitter, Prompt
from tunesmith_gateway.documents import DocumentService, Found, Retrieval


@dataclass(frozen=True)
class Wanted:
    """Which documents of `model` and which vector stores to look into, and how."""

    owner: str
    model: str
    documents: list[str]
    vector_store_ids: list[str]
    retrieval: Retrieval


@dataclass(frozen=True)
class Grounding:
    """The excerpts of a turn, best first, and what became of the others.

    `evidence` is the best of the sources', from 0 to 1; `omitted` counts excerpts that did not fit the context;
    `closest` is what came near, when nothing is good enough to answer from.
    """

    chunks: list[Chunk]
    evidence: float = 0.0
    omitted: int = 0
    notes: list[str] = field(default_factory=list)
    closest: list[Passage] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether there is nothing to answer from."""
        return not self.chunks

    @property
    def refusal(self) -> str:
        """The whole answer when there is nothing to answer from."""
        return told(self.closest)

    @property
    def remembered(self) -> str:
        """What a session keeps of that answer: words of documents get to the model as fenced excerpts only."""
        return opening(self.closest)


class Grounder:
    """Finds excerpts, and leaves out the worst ones until a prompt fits."""

    def __init__(self, documents: DocumentService, fitter: ContextFitter) -> None:
        self._documents = documents
        self._fitter = fitter

    async def find(self, wanted: Wanted, questions: list[str]) -> Grounding:
        """Look into all sources at once. Raises `NotFound` for documents and vector stores that are not there."""
        owner, how = wanted.owner, wanted.retrieval
        searches: list[Coroutine[Any, Any, Found]] = []
        if wanted.documents:
            searches.append(self._documents.search_model(owner, wanted.model, wanted.documents, questions, how))
        searches += [self._documents.search(owner, store, questions, how) for store in wanted.vector_store_ids]
        return together(await asyncio.gather(*searches), how.k, " ".join(questions))

    async def fit(self, grounding: Grounding, prompt_of: Callable[[list[Chunk]], Prompt]) -> Grounding:
        """Leave out excerpts from the worst upwards until the prompt that `prompt_of` makes of the others fits.

        The best one stays: when not even that fits, the model server's refusal says so with the numbers.
        """
        kept = grounding.chunks
        while len(kept) > 1 and not await self._fitter.fits(prompt_of(kept)):
            kept = kept[:-1]
        omitted = len(grounding.chunks) - len(kept)
        notes = [f"{omitted} excerpts did not fit the model's context."] if omitted else []
        return Grounding(kept, grounding.evidence, omitted, grounding.notes + notes)


def together(sources: list[Found], k: int, question: str) -> Grounding:
    """Return the `k` best excerpts of the sources with enough evidence; when none has, what came closest to `question`.

    Scores of different vector stores cannot be compared, ranks can; the source with more evidence comes first.
    """
    good = _mixed([found for found in sources if found.sufficient])
    evidence = max((found.evidence for found in sources), default=0.0)
    notes = list(dict.fromkeys(note for found in sources for note in found.notes))
    closest = [] if good else closest_passages(question, _mixed(sources))
    return Grounding(good[:k], evidence, 0, notes, closest)


def _mixed(sources: list[Found]) -> list[Chunk]:
    """Return the first excerpts of all sources, then all second ones, and so on."""
    ordered = sorted(sources, key=lambda found: -found.evidence)
    longest = max((len(found.chunks) for found in ordered), default=0)
    return [found.chunks[rank] for rank in range(longest) for found in ordered if rank < len(found.chunks)]
