"""How the index behaves as it grows: `python benchmarks/documents/index.py [--chunks 1000 10000] [--chroma URL]`.

Prints for each size what adding takes, the times of a search by meaning (four versions of a question one by one and in
one call, what the chunks found say, the vectors of the best) and by words, recall@10 against brute force, memory and
disk. Vectors are drawn around 2,000 centres, as those of texts on so many subjects lie; the versions of a question have
cosines of 0.7 to 0.95 to it, as rewritten questions have. Words are drawn by Zipf's law.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from tunesmith_rag.chroma import open_index
from tunesmith_rag.index import Chunk, ChunkIndex, Matrix, Near
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.neighbours import USUAL, Graph

STORE, DIMENSION, CENTRES, SPREAD = "vs-benchmark", 384, 2000, 0.6
DOCUMENT, QUESTIONS, NEAREST, DEPTH, POOL, COSINES = 500, 50, 10, 30, 20, (0.95, 0.82, 0.7)
VOCABULARY, SKIPPED, CHUNK_WORDS, QUESTION_WORDS = 30_000, 100, 120, 6
COLUMNS = ("one", "apart", "together", "say", "vectors", "words")

T = TypeVar("T")


def draw(count: int, seed: int) -> Matrix:
    """Return `count` vectors of length 1."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIMENSION))
    chance = np.random.default_rng(seed)
    vectors = centres[chance.integers(0, CENTRES, count)] + SPREAD * chance.normal(size=(count, DIMENSION))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def versions_of(question: Matrix, chance: np.random.Generator) -> Matrix:
    """Return a question and versions of it, with COSINES to it."""
    rows = [question]
    for cosine in COSINES:
        other = chance.normal(size=DIMENSION)
        other -= (other @ question) * question
        rows.append(cosine * question + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other))
    return np.asarray(rows, np.float32)


def say(count: int, chance: np.random.Generator) -> str:
    """Return `count` words; the commonest ones, which a search leaves out, are not among them."""
    weights = 1 / np.arange(SKIPPED, SKIPPED + VOCABULARY)
    return " ".join(f"word{number}" for number in chance.choice(VOCABULARY, count, p=weights / weights.sum()))


async def fill(legs: Legs, vectors: Matrix) -> float:
    """Add all vectors, a document at a time; return the seconds it took."""
    chance, seconds = np.random.default_rng(4), 0.0
    for start in range(0, len(vectors), DOCUMENT):
        part = vectors[start : start + DOCUMENT]
        name = f"doc-{start // DOCUMENT}"
        chunks = [Chunk(name, number, 1 + number // 4, say(CHUNK_WORDS, chance)) for number in range(len(part))]
        began = time.perf_counter()
        await legs.add(STORE, chunks, part.tolist(), {"file_id": name, "filename": f"{name}.pdf"})
        seconds += time.perf_counter() - began
    return seconds


class Stopwatch:
    """Milliseconds by what took them."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)

    async def time(self, what: str, call: Awaitable[T]) -> T:
        """Await `call` and note how long it took."""
        began = time.perf_counter()
        result = await call
        self.taken[what].append(1000 * (time.perf_counter() - began))
        return result


async def one_by_one(index: ChunkIndex, versions: Matrix) -> list[list[Near]]:
    """Ask every version in a call of its own."""
    return [(await index.search(STORE, version[None], DEPTH, None))[0] for version in versions]


async def ask(legs: Legs, questions: Matrix, watch: Stopwatch) -> list[set[int]]:
    """Ask all questions in all ways, one after the other so that all meet the same load; return what was found."""
    chance, found = np.random.default_rng(5), []
    for question in questions:
        versions, words = versions_of(question, chance), say(QUESTION_WORDS, chance)
        await watch.time("one", legs.dense.search(STORE, versions[:1], DEPTH, None))
        await watch.time("apart", one_by_one(legs.dense, versions))
        hits = await watch.time("together", legs.dense.search(STORE, versions, DEPTH, None))
        places = {(near.document_id, near.index) for row in hits for near in row}
        await watch.time("say", legs.lexical.chunks(STORE, places))
        names = [f"{near.document_id}:{near.index}" for near in hits[0][:POOL]]
        await watch.time("vectors", legs.dense.vectors(STORE, names))
        await watch.time("words", legs.lexical.search(STORE, [words], DEPTH, None))
        numbers = [(int(near.document_id.removeprefix("doc-")), near.index) for near in hits[0][:NEAREST]]
        found.append({document * DOCUMENT + index for document, index in numbers})
    return found


def size_of(folder: Path) -> float:
    """Return how many MiB the files in a folder have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


async def measure(count: int, graph: Graph, server: str) -> None:
    """Print the line of one size; `server` is the URL of a Chroma server, or empty."""
    vectors, questions = draw(count, 1), draw(QUESTIONS, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        legs = Legs(open_index(server, folder, graph), LexicalIndex(folder / "lexical"))
        seconds = await fill(legs, vectors)
        await ask(legs, questions[:4], Stopwatch())
        watch = Stopwatch()
        found = await ask(legs, questions, watch)
        disk = size_of(folder)
        await legs.remove_store(STORE)
        legs.close()
    best = np.argsort(-(questions @ vectors.T), axis=1)[:, :NEAREST]
    recall = statistics.mean(len(set(row.tolist()) & hits) / NEAREST for row, hits in zip(best, found, strict=True))
    medians = {what: statistics.median(times) for what, times in watch.taken.items()}
    times = "".join(f"{medians[column]:>10.1f}" for column in COLUMNS)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratio = medians["together"] / medians["apart"]
    line = f"{count:>8}{count / seconds:>10.0f}/s{times}{ratio:>8.2f}{recall:>11.3f}{memory:>8.0f} MiB{disk:>8.0f} MiB"
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every size that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--graph", type=int, nargs=3, metavar=("M", "BUILD", "SEARCH"), help="other than the default")
    parser.add_argument("--chroma", default="", metavar="URL", help="a Chroma server; nothing stays in it")
    given = parser.parse_args(arguments)
    columns = "".join(f"{column:>10}" for column in COLUMNS)
    print(f"{'chunks':>8}{'added':>12}{columns}{'ratio':>8}{'recall@10':>11}{'peak':>12}{'disk':>12}   (times in ms)")
    for count in given.chunks:
        asyncio.run(measure(count, Graph(*given.graph) if given.graph else USUAL, given.chroma))


if __name__ == "__main__":
    main()
