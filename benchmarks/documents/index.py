"""How the index behaves as it grows: `python benchmarks/documents/index.py [--chunks 1000 10000 100000]`.

Prints for each size the time to add, to query once, to ask four versions of a question one by one and in one call, and
recall@10 against brute force. Vectors are drawn around 2,000 centres, as those of texts on so many subjects lie.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunesmith_rag.chroma import open_index
from tunesmith_rag.index import Chunk, ChunkIndex, Matrix
from tunesmith_rag.neighbours import USUAL, Graph

STORE, DIMENSION, CENTRES, SPREAD = "vs-benchmark", 384, 2000, 0.6
BATCH, QUERIES, NEAREST, VERSIONS = 5000, 100, 10, 4


def draw(count: int, seed: int) -> Matrix:
    """Return `count` vectors of length 1."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIMENSION))
    chance = np.random.default_rng(seed)
    vectors = centres[chance.integers(0, CENTRES, count)] + SPREAD * chance.normal(size=(count, DIMENSION))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


async def fill(index: ChunkIndex, vectors: Matrix) -> float:
    """Add all vectors; return the seconds it took."""
    started = time.perf_counter()
    for start in range(0, len(vectors), BATCH):
        part = vectors[start : start + BATCH]
        chunks = [Chunk("doc", start + number, 1, f"chunk {start + number}") for number in range(len(part))]
        await index.add(STORE, chunks, part.tolist(), {})
    return time.perf_counter() - started


async def ask(index: ChunkIndex, questions: Matrix) -> tuple[float, float, list[set[int]]]:
    """Ask VERSIONS questions one by one, then in one call, again and again, so that both meet the same load; return the
    median milliseconds of both, and what was found.
    """
    apart, together, found = [], [], []
    for start in range(0, len(questions), VERSIONS):
        versions = questions[start : start + VERSIONS]
        began = time.perf_counter()
        for version in versions:
            await index.search(STORE, version[None], NEAREST, None)
        middle = time.perf_counter()
        hits = await index.search(STORE, versions, NEAREST, None)
        together.append(time.perf_counter() - middle)
        apart.append(middle - began)
        found += [{hit.chunk.index for hit in row} for row in hits]
    return statistics.median(apart) * 1000, statistics.median(together) * 1000, found


async def measure(count: int, graph: Graph) -> None:
    """Print the line of one size."""
    vectors, questions = draw(count, 1), draw(QUERIES, 2)
    with tempfile.TemporaryDirectory() as name:
        index = open_index("", Path(name), graph)
        seconds = await fill(index, vectors)
        await ask(index, questions[:VERSIONS])
        apart, together, found = await ask(index, questions)
        index.close()
    best = np.argsort(-(questions @ vectors.T), axis=1)[:, :NEAREST]
    recall = statistics.mean(len(set(row.tolist()) & hits) / NEAREST for row, hits in zip(best, found, strict=True))
    print(
        f"{count:>8}{count / seconds:>10.0f}/s{apart / VERSIONS:>11.1f} ms{apart:>9.1f} ms{together:>9.1f} ms"
        f"{together / apart:>8.2f}{recall:>11.3f}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every size that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--graph", type=int, nargs=3, metavar=("M", "BUILD", "SEARCH"), help="other than the default")
    given = parser.parse_args(arguments)
    print(f"{'chunks':>8}{'added':>12}{'one query':>14}{'4 apart':>12}{'together':>12}{'ratio':>8}{'recall@10':>11}")
    for count in given.chunks:
        asyncio.run(measure(count, Graph(*given.graph) if given.graph else USUAL))


if __name__ == "__main__":
    main()
