"""The texts that are searched for: the questions as asked and their rewritten versions, as vectors."""

from dataclasses import dataclass

from tunesmith_rag.embed import Embedder
from tunesmith_rag.near import Matrix, unit
from tunesmith_rag.ranking import Question
from tunesmith_rag.rewrite import Rewriter
from tunesmith_shared.errors import BadRequest


@dataclass(frozen=True)
class Versions:
    """The texts to search for with their vectors; the first `originals` are the questions as they were asked."""

    texts: list[str]
    vectors: Matrix
    originals: int
    notes: list[str]

    def similarity(self, vector: Matrix) -> float:
        """Return the cosine of a chunk's vector and the nearest question as asked, from 0 to 1."""
        return max(self.similarities(vector))

    def similarities(self, vector: Matrix) -> list[float]:
        """Return the cosine of a chunk's vector and each question as asked, from 0 to 1."""
        return [min(1.0, max(0.0, float(one))) for one in self.vectors[: self.originals] @ unit([vector])[0]]


class Wording:
    """Embeds questions, and lets a chat model write other versions of them.

    `patience` is how many seconds to wait for an embedding model that is being prepared, `closest` how similar a
    version must be to the question.
    """

    def __init__(self, embedder: Embedder, rewriter: Rewriter, *, patience: float, closest: float) -> None:
        self._embedder = embedder
        self._rewriter = rewriter
        self._patience = patience
        self._closest = closest

    async def versions(self, model_name: str, question: Question) -> Versions:
        """Embed the questions and their versions in one request; leave out versions that mean something else.

        Raises `BadRequest` for a question that is longer than the embedding model takes.
        """
        model = await self._embedder.model(model_name, self._patience)
        for query in question.queries:
            if (tokens := model.count(query)) > model.max_tokens:
                raise BadRequest(
                    f"The question has {tokens} tokens and the embedding model {model_name} takes {model.max_tokens}. "
                    "Ask a shorter question.",
                    param="query",
                    code="context_length_exceeded",
                )
        texts, notes = list(question.queries), []
        originals = len(texts)
        if question.rewrite_model is not None:
            for query in question.queries:
                written = await self._rewriter.versions(query, question.rewrite_model, question.rewrites)
                texts += [text for text in written.questions if model.count(text) <= model.max_tokens]
                notes += [written.note] if written.note else []
        vectors = unit(await self._embedder.embed(model_name, texts, self._patience))
        closeness = (vectors @ vectors[:originals].T).max(axis=1)
        kept = [row for row in range(len(texts)) if row < originals or closeness[row] >= self._closest]
        if question.rewrite_model is not None and len(kept) == originals and not notes:
            notes.append("The question was searched as it is: its rewritten versions meant something else.")
        return Versions([texts[row] for row in kept], vectors[kept], originals, notes)
