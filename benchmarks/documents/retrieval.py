"""How well the pages of the example handbook are found: `python benchmarks/documents/retrieval.py`.

Puts `examples/handbook.pdf` into an index of its own, asks `examples/questions.csv` and prints, for each way to search,
recall@5 and the mean reciprocal rank by page, its time, and its difference from plain dense search with a paired
bootstrap 95 % interval; then what a threshold on the similarity refuses. One run, about a minute on two cores.
"""

import asyncio
import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunesmith_rag.chroma import open_index
from tunesmith_rag.embed import OllamaEmbedder
from tunesmith_rag.index import Chunk
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.pdf import read_pages
from tunesmith_rag.retrieve import Question, Retriever, Weights
from tunesmith_rag.rewrite import Rewriter
from tunesmith_rag.settings import RagSettings
from tunesmith_rag.split import effective_chunking, page_splitter
from tunesmith_shared.database import Database
from tunesmith_shared.settings import async_database_url
from tunesmith_shared.tables import Document, VectorStore
from tunesmith_shared.testing import platform_at, wait_for_models

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STORE = VectorStore(
    id="vs-benchmark", owner="me", name="", embedding_model="all-minilm", details={}, created_at=1, last_active_at=1
)
COUNT = 10
RESAMPLES = 10_000
WAYS = {
    "dense": Weights(1, 0),
    "words": Weights(0, 1),
    "hybrid": Weights(1, 1),
    "hybrid 2:1": Weights(2, 1),
}


@dataclass(frozen=True)
class Asked:
    """A question, and the page that answers it; None when none does."""

    text: str
    page: int | None


@dataclass(frozen=True)
class Outcome:
    """What one way to search found for every question: pages, best first, the best similarity and BM25 score, and how
    long it took.
    """

    pages: list[list[int]]
    similarity: list[float]
    words: list[float]
    seconds: list[float]

    @property
    def milliseconds(self) -> float:
        """The median time of a search."""
        return float(np.median(self.seconds)) * 1000

    def recall(self, questions: Sequence[Asked]) -> np.ndarray:
        """Return for each question 1 when its page is among the first five chunks, else 0."""
        return np.array([float(asked.page in pages[:5]) for asked, pages in zip(questions, self.pages, strict=True)])

    def reciprocal_rank(self, questions: Sequence[Asked]) -> np.ndarray:
        """Return for each question 1 / the place of the first chunk from its page, 0 when there is none."""
        return np.array(
            [
                1 / (pages.index(asked.page) + 1) if asked.page in pages else 0.0
                for asked, pages in zip(questions, self.pages, strict=True)
            ]
        )


def read_questions() -> list[Asked]:
    """Return the example questions."""
    with (EXAMPLES / "questions.csv").open(encoding="utf-8", newline="") as file:
        return [Asked(row["question"], int(row["page"]) if row["page"] else None) for row in csv.DictReader(file)]


async def fill(legs: Legs, embedder: OllamaEmbedder, database: Database) -> int:
    """Put the handbook into the index as an ingestion does; return the number of its chunks."""
    model = await embedder.model(STORE.embedding_model, 60)
    split = page_splitter(effective_chunking({"type": "auto"}, model.max_tokens), model.count)
    pages = read_pages(EXAMPLES / "handbook.pdf", 100)
    texts = [(page.number, text) for page in pages for text in split(page.text)]
    chunks = [Chunk("doc-handbook", number, page, text) for number, (page, text) in enumerate(texts)]
    await legs.add(STORE.id, chunks, await embedder.embed(STORE.embedding_model, [c.text for c in chunks], 60), {})
    async with database.session() as session:
        session.add(STORE)
        await session.flush()
        session.add(
            Document(
                id="doc-handbook", owner="me", vector_store_id=STORE.id, file_id="file-handbook", sha256="",
                filename="handbook.pdf", status="completed", created_at=1, updated_at=1,
            )
        )  # fmt: skip
    return len(chunks)


async def ask(retriever: Retriever, questions: Sequence[Asked]) -> dict[str, Outcome]:
    """Ask every question in every way, one way after the other so that all meet the same load."""
    outcomes = {name: Outcome([], [], [], []) for name in WAYS}
    await retriever.search(STORE, Question(["warm-up"], COUNT))
    for asked in questions:
        for name, outcome in outcomes.items():
            started = time.perf_counter()
            found = await retriever.search(STORE, Question([asked.text], COUNT, weights=WAYS[name]))
            outcome.seconds.append(time.perf_counter() - started)
            outcome.pages.append([result.chunk.page for result in found.data])
            outcome.similarity.append(max((result.score for result in found.data), default=0.0))
            words = [score for leg in found.legs if leg.kind == "lexical" for _, score in leg.hits]
            outcome.words.append(max(words, default=0.0))
    return outcomes


def interval(differences: np.ndarray) -> str:
    """Return the mean of paired `differences` with its bootstrap 95 % interval."""
    drawn = np.random.default_rng(7).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def report_ranking(questions: Sequence[Asked], outcomes: dict[str, Outcome]) -> None:
    """Print recall@5 and mean reciprocal rank of every way, and the differences from plain dense search."""
    known = [number for number, asked in enumerate(questions) if asked.page is not None]
    plain = outcomes["dense"]
    measures: list[Callable[[Outcome], np.ndarray]] = [
        lambda outcome: outcome.recall(questions)[known],
        lambda outcome: outcome.reciprocal_rank(questions)[known],
    ]
    print(f"{'way':<12}{'recall@5':>9}  {'against dense':<26}{'MRR':>6}  {'against dense':<26}{'time':>7}  ratio")
    for name, outcome in outcomes.items():
        cells = [(measure(outcome).mean(), interval(measure(outcome) - measure(plain))) for measure in measures]
        (recall, recall_gain), (rank, rank_gain) = cells
        ratio = outcome.milliseconds / plain.milliseconds
        print(
            f"{name:<12}{recall:>9.3f}  {recall_gain:<26}{rank:>6.3f}  {rank_gain:<26}{outcome.milliseconds:>4.0f} ms"
            f"  {ratio:.2f}"
        )


def report_refusals(questions: Sequence[Asked], outcome: Outcome) -> None:
    """Print for both scores what refusing nine of ten unanswerable questions costs, and how well the score tells."""
    known = np.array([asked.page is not None for asked in questions])
    print(f"\nRefusing by the best score of a question; {known.sum()} can be answered, {(~known).sum()} cannot.")
    for name, scores in (("similarity", np.array(outcome.similarity)), ("BM25", np.array(outcome.words))):
        threshold = np.quantile(scores[~known], 0.9, method="higher")
        refused = scores <= threshold
        pairs = scores[known][:, None] - scores[~known][None, :]
        told_apart = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
        print(
            f"{name:<11}<= {threshold:.2f} refuses {refused[~known].mean():.0%} of the unanswerable and "
            f"{refused[known].mean():.0%} of the answerable; the answerable are higher in {told_apart:.0%} of pairs"
        )


async def measure(folder: Path, engine_url: str, database_url: str) -> None:
    """Fill, ask, report."""
    settings = RagSettings(data_dir=folder)
    database, embedder = Database(async_database_url(database_url)), OllamaEmbedder(engine_url, 256)
    legs = Legs(open_index("", folder / "index"), LexicalIndex(folder / "index" / "lexical"))
    rewriter = Rewriter(engine_url, settings.rewrite_count, settings.rewrite_seconds)
    retriever = Retriever(
        database, legs, embedder, rewriter, patience=60, closest=settings.rewrite_min_similarity
    )  # fmt: skip
    questions = read_questions()
    print(f"{await fill(legs, embedder, database)} chunks, {len(questions)} questions")
    outcomes = await ask(retriever, questions)
    report_ranking(questions, outcomes)
    report_refusals(questions, outcomes["hybrid"])
    await rewriter.close()
    await embedder.close()
    await database.close()
    legs.close()


def main() -> None:
    """Start an engine, measure, and leave nothing behind."""
    with tempfile.TemporaryDirectory() as name, platform_at(Path(name)) as platform:
        engine = platform.services["engine"]
        platform.start("engine")
        wait_for_models(engine.url)
        asyncio.run(measure(Path(name), engine.url, platform.environment["TUNESMITH_DATABASE_URL"]))


if __name__ == "__main__":
    main()
