"""How searches fare while documents come in: `python -m benchmarks.documents.meanwhile [--pages 100] [--documents 5]`.

A question whose vector is known is asked forty times a second, first alone, then while documents are brought in one
after the other. Times count from the moment at which it should have been asked, so that what stops the event loop
counts for all that come meanwhile. Prints these, by percentile, and how late the event loop itself was.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.documents.ingestion import HANDBOOK, MODEL, STORE, Pipeline, pipeline

from tunesmith_rag.near import Matrix
from tunesmith_rag.sample_pdfs import sample

QUESTION = "How often is the rain gauge calibrated?"
EVERY_SECONDS, LATE_SECONDS, ALONE_SECONDS = 0.025, 0.002, 5.0
NEAREST = 30
SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)


class Asker:
    """Asks all the time while the block runs; `searches` and `loop` are milliseconds."""

    def __init__(self, ours: Pipeline, vectors: Matrix) -> None:
        self._ours = ours
        self._vectors = vectors
        self.searches: list[float] = []
        self.loop: list[float] = []

    async def __aenter__(self) -> "Asker":
        """Begin."""
        self._tasks = [asyncio.create_task(self._ask()), asyncio.create_task(self._look())]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self) -> None:
        due = time.perf_counter()
        async with asyncio.TaskGroup() as asked:
            while True:
                due += EVERY_SECONDS
                await asyncio.sleep(due - time.perf_counter())
                asked.create_task(self._one(due))

    async def _one(self, due: float) -> None:
        await self._ours.legs.nearest(STORE, self._vectors, NEAREST, None)
        self.searches.append(1000 * (time.perf_counter() - due))

    async def _look(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LATE_SECONDS)
            self.loop.append(1000 * (time.perf_counter() - began - LATE_SECONDS))

    def say(self, what: str) -> None:
        """Print the percentiles of both."""
        for name, times in (("searches", sorted(self.searches)), ("event loop", sorted(self.loop))):
            places = (min(len(times) - 1, int(share * len(times))) for share in SHARES)
            print(f"{what:<10}{name:<12}" + "".join(f"{times[place]:>8.1f}" for place in places), flush=True)


async def measure(pages: int, documents: int, folder: Path) -> None:
    """Print what searches meet alone and while `documents` of so many pages come in."""
    file = folder / "prose.pdf"
    file.write_bytes(sample("prose", pages))
    async with pipeline(folder / "data") as ours:
        await ours.bring_in(HANDBOOK, 0)
        await ours.bring_in(file, 0)
        vectors = np.asarray(await ours.embedder.embed(MODEL, [QUESTION], 0), np.float32)
        gc.freeze()  # as the service does when it has started
        print(f"{'(ms)':<22}" + "".join(f"{f'{share:.0%}':>8}" for share in SHARES))
        async with Asker(ours, vectors) as alone:
            await asyncio.sleep(ALONE_SECONDS)
        alone.say("alone")
        async with Asker(ours, vectors) as beside:
            seconds = sum([await ours.bring_in(file, 1 + number) for number in range(documents)])
        beside.say("beside")
        print(f"{documents * pages / seconds:.1f} pages/s came in meanwhile")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=100, help="of each document")
    parser.add_argument("--documents", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        asyncio.run(measure(given.pages, given.documents, Path(folder)))


if __name__ == "__main__":
    main()
