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


async def ask(index: ChunkIndex, questions: Matrix, together: int) -> tuple[float, list[set[int]]]:
    """Ask `together` questions in a call; return the median milliseconds for VERSIONS questions, and what was found."""
    times, found = [], []
    for start in range(0, len(questions), VERSIONS):
        began = time.perf_counter()
        for first in range(start, start + VERSIONS, together):
            hits = await index.search(STORE, questions[first : first + together], NEAREST, None)
            found += [{hit.chunk.index for hit in row} for row in hits]
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000, found


async def measure(count: int) -> None:
    """Print the line of one size."""
    vectors, questions = draw(count, 1), draw(QUERIES, 2)
    with tempfile.TemporaryDirectory() as name:
        index = open_index("", Path(name))
        seconds = await fill(index, vectors)
        await ask(index, questions[:VERSIONS], VERSIONS)
        apart, found = await ask(index, questions, 1)
        together, _ = await ask(index, questions, VERSIONS)
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
    print(f"{'chunks':>8}{'added':>12}{'one query':>14}{'4 apart':>12}{'together':>12}{'ratio':>8}{'recall@10':>11}")
    for count in parser.parse_args(arguments).chunks:
        asyncio.run(measure(count))


if __name__ == "__main__":
    main()
