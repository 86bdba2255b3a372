"""What searching for the question before brings: `python -m benchmarks.documents.quality.follow_ups`.

Asks each question of `follow_ups.csv`, which leans on the one before it, by itself and as the gateway does, and prints
recall@5 and mean reciprocal rank of the page that answers. Then what it costs: questions of the set that look as if
they leaned on another, after one that has nothing to do with them.
"""

import asyncio
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.documents.quality.measures import FIRST, Place
from benchmarks.documents.quality.questions import FOLDER, read_questions
from benchmarks.documents.quality.store import STORE, Library, library

from tunesmith_gateway.follow_up import searched_for
from tunesmith_rag.ranking import Question
from tunesmith_shared.testing import platform_at

COUNT = 10
APART = 37
"""How many questions of the set lie between one and the unrelated one that is asked before it."""

Exchange = tuple[str, str, Place]
"""What was asked before, what is asked, and where the answer stands."""


def leaning() -> list[Exchange]:
    """Return the questions that lean on another."""
    with (FOLDER / "follow_ups.csv").open(encoding="utf-8", newline="") as file:
        return [
            (row["before"], row["question"], (row["document"], int(row["page"])))
            for row in csv.DictReader(file, strict=True)
        ]


def unrelated() -> list[Exchange]:
    """Return questions of the set that look like leaning ones, after others."""
    asked = [one for one in read_questions() if one.answerable]
    pairs = [(asked[number - APART].text, one) for number, one in enumerate(asked)]
    return [(before, one.text, one.place) for before, one in pairs if len(searched_for(one.text, before)) > 1]


def unanswerable() -> list[Exchange]:
    """Return near questions without an answer, put as if they leaned on one before; no place answers them."""
    asked = read_questions()
    answered = [one.text for one in asked if one.answerable]
    near = [one for one in asked if one.kind == "near"]
    return [
        (answered[number * APART % len(answered)], f"And {one.text[0].lower()}{one.text[1:]}", one.place)
        for number, one in enumerate(near)
    ]


async def report(books: Library, name: str, exchanges: Sequence[Exchange]) -> None:
    """Print what both ways find."""
    for way in ("by itself", "as the gateway"):
        worth, refused = [], 0
        for before, question, place in exchanges:
            queries = [question] if way == "by itself" else searched_for(question, before)
            found = await books.retriever.search(STORE, Question(queries, COUNT))
            places = [(result.chunk.document_id, result.chunk.page) for result in found.data]
            refused += found.evidence is not None and not found.evidence.sufficient
            worth.append(1 / (places.index(place) + 1) if place in places else 0.0)
        recall = np.mean([one >= 1 / FIRST for one in worth])
        answered = any(page for _, _, (_, page) in exchanges)
        shown = f"recall@5 {recall:.3f}, MRR {np.mean(worth):.3f}, " if answered else ""
        print(f"{name} ({len(exchanges)}), {way}: {shown}refused {refused}")


async def measure(folder: Path) -> None:
    """Fill, ask, report."""
    with platform_at(folder) as platform:
        async with library(folder, platform) as books:
            await report(books, "leaning on the one before", leaning())
            await report(books, "after one that has nothing to do with it", unrelated())
            await report(books, "without an answer, after another one", unanswerable())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(Path(name)))
