"""How fast documents come in: `python -m benchmarks.documents.ingestion [--pages 10 100 1000]`.

Prints (1) the text layer alone, PDFium as used here against pypdf, by kind of PDF, with the word F1; (2) whole
ingestions of generated PDFs: pages/s, the share of that time which embedding the same chunks alone takes, without a
stop, before and after (of long documents a sample of them, scaled), and peak memory; (3) the plain LangChain recipe
(`recipe.py`) on the same files, up to `--recipe` pages, with the same embedding model behind it on the same processors,
once in ONNX Runtime and once in the platform's own runtime, and up to `--server-recipe` pages at the platform's model
server, as the recipe has it with Ollama. Each ingestion is a process of its own, which has brought in the handbook
before.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
from pypdf import PdfReader

from tunesmith_rag.embed_openvino import OpenVinoEmbedder
from tunesmith_rag.fill import Fill, Order, Tools
from tunesmith_rag.index import open_index
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.parse import ParseLimits
from tunesmith_rag.parsers import Parsers
from tunesmith_rag.pdf import Wanted, pages_of, read_pages
from tunesmith_rag.sample_pdfs import KINDS, sample
from tunesmith_rag.split import effective_chunking, page_splitter
from tunesmith_rag.workfiles import WorkFolder
from tunesmith_shared.testing import platform_at, wait_for_models

STORE, MODEL, LONGEST, BATCH = "vs-benchmark", "all-minilm", 256, 8
ROOT = Path(__file__).resolve().parents[2]
HANDBOOK = ROOT / "examples" / "handbook.pdf"
RECIPES = ("onnx", "openvino")
"""The runtimes of `recipe.py`."""
REPEATS = 3
REPEATED_PAGES = 100
"""Longer documents are brought in once."""
TEXT_PAGES = 100
SAMPLE_SECONDS = 0.02
WINDOW, WINDOWS = BATCH * 32, 10
"""Chunks that an ingestion embeds together, and of how many such windows embedding alone is timed at the most."""


def seconds_of(work: Callable[[], object]) -> float:
    """Return the median time of `work`."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def word_f1(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the F1 of the words of two lists of pages."""
    first, second = (Counter(re.findall(r"\w+", " ".join(pages))) for pages in (one, other))
    return 2 * (first & second).total() / (first.total() + second.total())


def compare_text_layers(folder: Path) -> None:
    """Print pages/s of both libraries by kind of PDF, and over all of them."""
    print(f"{'text layer':<16}{'ours':>8}{'pypdf':>8}{'ratio':>7}  word F1   (pages/s)")
    pages, ours_all, plain_all = 0, 0.0, 0.0
    for kind in ("handbook", *KINDS):
        file = HANDBOOK if kind == "handbook" else folder / f"{kind}.pdf"
        if kind != "handbook":
            file.write_bytes(sample(kind, TEXT_PAGES))
        content = file.read_bytes()
        plain = _by_pypdf(content)
        ours = _by_pdfium(file)
        fast = seconds_of(partial(_by_pdfium, file))
        slow = seconds_of(partial(_by_pypdf, content))
        pages, ours_all, plain_all = pages + len(ours), ours_all + fast, plain_all + slow
        print(
            f"{kind:<16}{len(ours) / fast:>8.0f}{len(ours) / slow:>8.0f}{slow / fast:>7.1f}  {word_f1(ours, plain):.5f}"
        )
    print(f"{'all':<16}{pages / ours_all:>8.0f}{pages / plain_all:>8.0f}{plain_all / ours_all:>7.1f}\n")


def _by_pdfium(file: Path) -> list[str]:
    return [page.text for page in pages_of(file, Wanted(processes=len(os.sched_getaffinity(0))))]


def _by_pypdf(content: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(BytesIO(content)).pages]


class Peak:
    """The largest memory of this process and its children while the block runs, in MiB. To look at it takes a tenth of
    a processor, so that nothing is timed meanwhile.
    """

    def __enter__(self) -> "Peak":
        """Begin to look."""
        self.mebibytes = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        me = psutil.Process()
        own = me.cmdline()
        while not self._over.wait(SAMPLE_SECONDS):
            used = me.memory_info().rss
            for child in me.children(recursive=True):
                try:
                    if child.cmdline() != own:  # else it is about to become another program, and its memory is ours
                        used += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.mebibytes = max(self.mebibytes, used / 2**20)

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join()


@dataclass(frozen=True)
class Pipeline:
    """What brings documents in as the service does, into one store."""

    embedder: OpenVinoEmbedder
    legs: Legs
    tools: Tools
    folder: Path

    async def bring_in(self, document: Path, number: int) -> float:
        """Bring `document` in for the time `number`; return the seconds it took."""
        name = f"{document.name}-{number}"
        order = Order(name, document, document.name, {"type": "auto"}, {"filename": name}, STORE, MODEL)
        started = time.perf_counter()
        await Fill(order, self.tools, WorkFolder(self.folder, name), _nothing).run()
        return time.perf_counter() - started


async def _nothing(*_: object, **__: object) -> None:
    pass


@asynccontextmanager
async def pipeline(folder: Path) -> AsyncIterator[Pipeline]:
    """Give a pipeline with an empty store in `folder`."""
    embedder = OpenVinoEmbedder(LONGEST, BATCH, 0)
    legs = Legs(await open_index("", folder), LexicalIndex(folder / "lexical"))
    parsers = Parsers(ParseLimits())
    await parsers.prepare()
    try:
        yield Pipeline(embedder, legs, Tools(embedder, legs, parsers, BATCH, 0, _nothing), folder)
    finally:
        await legs.close()
        await parsers.close()
        await embedder.close()


async def ingest(file: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Bring `file` in as the service does, and embed its chunks alone before and after; medians of the `rounds`."""
    async with pipeline(folder) as ours:
        model = await ours.embedder.model(MODEL, 0)
        split = page_splitter(effective_chunking({"type": "auto"}, model.max_tokens), model.count)
        texts = [text for page in read_pages(file, 5000) for text in split(page.text)]
        wholes, shares = [], []
        before = await embedding_alone(ours.embedder, texts)
        for number in range(rounds):
            await ours.bring_in(HANDBOOK, number)
            wholes.append(await ours.bring_in(file, number))
            after = await embedding_alone(ours.embedder, texts)
            shares.append((before + after) / 2 / wholes[-1])
            before = after
        with Peak() as peak:
            await ours.bring_in(file, rounds)
    figures = {"seconds": statistics.median(wholes), "share": statistics.median(shares)}
    return {**figures, "chunks": len(texts), "mebibytes": peak.mebibytes}


async def embedding_alone(embedder: OpenVinoEmbedder, texts: Sequence[str]) -> float:
    """Return how long embedding `texts` takes with no stop between windows; of many a sample's time, scaled."""
    windows = [texts[start : start + WINDOW] for start in range(0, len(texts), WINDOW)]
    timed = windows[:: -(-len(windows) // WINDOWS)]
    started = time.perf_counter()
    await asyncio.gather(*(embedder.embed(MODEL, window, 0) for window in timed))
    return (time.perf_counter() - started) * len(texts) / sum(map(len, timed))


def plain_recipe(file: Path, folder: Path, way: str, server: str) -> dict[str, float]:
    """Bring `file` in by the recipe; `server` is the URL of the model server that embeds, if it does."""
    from benchmarks.documents import recipe  # noqa: PLC0415 - its libraries' memory counts for the recipe alone

    model = recipe.embeddings(way, server)
    recipe.bring_in(HANDBOOK, folder / "before", model)
    started = time.perf_counter()
    chunks = recipe.bring_in(file, folder / "timed", model)
    whole = time.perf_counter() - started
    with Peak() as peak:
        recipe.bring_in(file, folder / "watched", model)
    return {"seconds": whole, "chunks": chunks, "mebibytes": peak.mebibytes}


def in_a_process(way: str, file: Path, server: str = "", rounds: int = 1) -> dict[str, Any]:
    """Run one way of ingestion in a process of its own; its figures."""
    command = [sys.executable, "-m", "benchmarks.documents.ingestion", "--one", way, str(file)]
    done = subprocess.run(
        [*command, "--server", server, "--rounds", str(rounds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare_ingestions(folder: Path, sizes: Sequence[int], longest: int) -> None:
    """Print pages/s for PDFs of prose of these sizes, of the recipe for those of `longest` pages at the most."""
    recipes = "".join(f"{'recipe, ' + way:>18}{'peak':>10}{'ratio':>7}" for way in RECIPES)
    print(f"{'pages':>6}{'ours':>8}{'of embedding alone':>20}{'peak':>10}{recipes}")
    for pages in sizes:
        file = folder / f"{pages}.pdf"
        file.write_bytes(sample("prose", pages))
        ours = in_a_process("ours", file, rounds=REPEATS if pages <= REPEATED_PAGES else 1)
        line = f"{pages:>6}{pages / ours['seconds']:>6.1f}/s{ours['share']:>20.0%}{ours['mebibytes']:>6.0f} MiB"
        for way in RECIPES if pages <= longest else ():
            plain = in_a_process(way, file)
            ratio = plain["seconds"] / ours["seconds"]
            line += f"{pages / plain['seconds']:>16.1f}/s{plain['mebibytes']:>6.0f} MiB{ratio:>7.2f}"
        print(line, flush=True)


def compare_with_server(folder: Path, sizes: Sequence[int]) -> None:
    """Print the recipe's pages/s beside ours where it embeds at the platform's model server, as with Ollama."""
    if not sizes:
        return
    print(f"\n{'pages':>6}{'ours':>8}{'recipe, embedding at the model server':>40}{'ratio':>7}")
    (folder / "platform").mkdir()
    with platform_at(folder / "platform") as platform:
        platform.start("engine")
        server = platform.services["engine"].url
        wait_for_models(server, "all-minilm:latest")
        for pages in sizes:
            file = folder / f"{pages}.pdf"
            ours, plain = in_a_process("ours", file), in_a_process("server", file, server)
            ratio = plain["seconds"] / ours["seconds"]
            print(
                f"{pages:>6}{pages / ours['seconds']:>6.1f}/s{pages / plain['seconds']:>38.1f}/s{ratio:>7.2f}",
                flush=True,
            )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--recipe", type=int, default=100, help="pages up to which the recipe is measured, too")
    parser.add_argument("--server-recipe", type=int, default=10, help="... with the model at the model server")
    parser.add_argument("--server", default="", help="of --one server: the model server that embeds")
    parser.add_argument("--rounds", type=int, default=1, help="of --one ours: how often")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FILE"), help="one ingestion, its figures as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.one:
            way, file = given.one[0], Path(given.one[1])
            ours = way == "ours"
            figures = (
                asyncio.run(ingest(file, folder, given.rounds))
                if ours
                else plain_recipe(file, folder, way, given.server)
            )
            print(json.dumps(figures))
            return
        compare_text_layers(folder)
        compare_ingestions(folder, given.pages, given.recipe)
        compare_with_server(folder, [pages for pages in given.pages if pages <= given.server_recipe])


if __name__ == "__main__":
    main()
