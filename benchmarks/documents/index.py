"""How the index behaves as it grows: `python -m benchmarks.documents.index [--chunks 1000 10000] [--drawn 100000]`.

Prints for each size what adding takes, the times of a search by meaning (four versions of a question one by one and in
one call, what the chunks found say, the vectors of the best), by words, and by meaning in one document or half of them,
recall@10 against brute force, of questions and their versions, memory and disk. What it is filled with is in
`corpora.py`.
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
from benchmarks.documents.corpora import Corpus, drawn, real

from tunesmith_rag.index import Chunk, ChunkIndex, open_index
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.near import Matrix, Near
from tunesmith_rag.neighbours import USUAL, Graph

STORE = "vs-benchmark"
DOCUMENT, NEAREST, DEPTH, POOL, WARM, TIE = 500, 10, 30, 20, 4, 1e-6
COLUMNS = ("one", "apart", "together", "say", "vectors", "words", "document", "half")

T = TypeVar("T")


async def fill(legs: Legs, corpus: Corpus) -> float:
    """Add all chunks, a document at a time; return the seconds it took."""
    seconds = 0.0
    for start in range(0, len(corpus.texts), DOCUMENT):
        name = f"doc-{start // DOCUMENT}"
        texts = corpus.texts[start : start + DOCUMENT]
        chunks = [Chunk(name, number, 1 + number // 4, text) for number, text in enumerate(texts)]
        vectors = corpus.vectors[start : start + DOCUMENT].tolist()
        began = time.perf_counter()
        await legs.add(STORE, chunks, vectors, {"file_id": name, "filename": f"{name}.pdf"})
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


async def ask(legs: Legs, corpus: Corpus, count: int, watch: Stopwatch) -> list[list[set[int]]]:
    """Ask `count` questions in all ways, one after the other so that all meet the same load; return what was found."""
    found = []
    documents = [f"doc-{number}" for number in range(-(-len(corpus.texts) // DOCUMENT))]
    half = {"file_id": {"$in": documents[: max(1, len(documents) // 2)]}}
    for versions, wordings in list(zip(corpus.versions, corpus.questions, strict=True))[:count]:
        await watch.time("one", legs.dense.search(STORE, versions[:1], DEPTH, None))
        await watch.time("apart", one_by_one(legs.dense, versions))
        hits = await watch.time("together", legs.dense.search(STORE, versions, DEPTH, None))
        places = {(near.document_id, near.index) for row in hits for near in row}
        await watch.time("say", legs.lexical.chunks(STORE, places))
        names = [f"{near.document_id}:{near.index}" for near in hits[0][:POOL]]
        await watch.time("vectors", legs.dense.vectors(STORE, names))
        await watch.time("words", legs.lexical.search(STORE, wordings[:1], DEPTH, None))
        await watch.time("document", legs.nearest(STORE, versions[:1], DEPTH, {"file_id": {"$eq": documents[0]}}))
        await watch.time("half", legs.nearest(STORE, versions[:1], DEPTH, half))
        found.append([{_number(near) for near in row[:NEAREST]} for row in hits])
    return found


def _number(near: Near) -> int:
    return int(near.document_id.removeprefix("doc-")) * DOCUMENT + near.index


def recall(corpus: Corpus, found: Sequence[Sequence[set[int]]], version: int) -> float:
    """Return the mean share of the nearest chunks, found for one version of each question, that are as near as the
    nearest that there are: of several at the same distance any will do.
    """
    shares = []
    for versions, rows in zip(corpus.versions, found, strict=True):
        similarities = corpus.vectors @ versions[version]
        last = np.sort(similarities)[-NEAREST] - TIE
        shares.append(sum(bool(similarities[number] >= last) for number in rows[version]) / NEAREST)
    return statistics.mean(shares)


def size_of(folder: Path) -> float:
    """Return how many MiB the files in a folder have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


async def measure(corpus: Corpus, graph: Graph, server: str) -> None:
    """Print the line of one size; `server` is the URL of a Chroma server, or empty."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        legs = Legs(await open_index(server, folder, graph), LexicalIndex(folder / "lexical"))
        seconds = await fill(legs, corpus)
        await ask(legs, corpus, WARM, Stopwatch())
        watch = Stopwatch()
        found = await ask(legs, corpus, len(corpus.questions), watch)
        disk = size_of(folder)
        await legs.remove_store(STORE)
        await legs.close()
    medians = {what: statistics.median(times) for what, times in watch.taken.items()}
    times = "".join(f"{medians[column]:>10.1f}" for column in COLUMNS)
    count, ratio = len(corpus.texts), medians["together"] / medians["apart"]
    question = recall(corpus, found, 0)
    others = statistics.mean(recall(corpus, found, version) for version in range(1, len(corpus.versions[0])))
    memory = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    line = f"{count:>8}{count / seconds:>10.0f}/s{times}{ratio:>8.2f}{question:>11.3f}{others:>10.3f}"
    print(f"{line}{memory:>8.0f} MiB{disk:>8.0f} MiB", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every size that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="*", default=[1000, 10_000, 30_000], help="of real texts")
    parser.add_argument("--drawn", type=int, nargs="*", default=[], help="of drawn vectors and words")
    parser.add_argument("--graph", type=int, nargs=3, metavar=("M", "BUILD", "SEARCH"), help="other than the default")
    parser.add_argument("--chroma", default="", metavar="URL", help="a Chroma server; nothing stays in it")
    given = parser.parse_args(arguments)
    graph = Graph(*given.graph) if given.graph else USUAL
    columns = "".join(f"{column:>10}" for column in COLUMNS)
    recalls = f"{'recall@10':>11}{'versions':>10}"
    print(f"{'chunks':>8}{'added':>12}{columns}{'ratio':>8}{recalls}{'peak':>12}{'disk':>12}   (times in ms)")
    for count in given.chunks:
        asyncio.run(measure(asyncio.run(real(count)), graph, given.chroma))
    for count in given.drawn:
        asyncio.run(measure(drawn(count), graph, given.chroma))


if __name__ == "__main__":
    main()
