"""What a person gets at each evidence threshold: `python -m benchmarks.documents.quality.refusals`.

The small model answers every question of the set once, at temperature 0 and whatever the evidence; what a refusal of
the question would name is noted beside it. A threshold then decides which of the two a person is shown, so that all
are compared over the same answers. `--keep` writes them to a JSONL file as they come; what that file has already is
not asked again.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import ollama
from benchmarks.documents.quality.answers import AT_ONCE, answer, plain
from benchmarks.documents.quality.measures import interval
from benchmarks.documents.quality.questions import Asked, halves, read_questions
from benchmarks.documents.quality.store import STORE, Library, library

from tunesmith_gateway.citations import Chunk
from tunesmith_gateway.closest import closest_passages
from tunesmith_rag.ranking import Question
from tunesmith_shared.testing import platform_at, wait_for_models

EXCERPTS = 3
THRESHOLDS = (0.17, 0.0, 0.31, 0.55, 0.59, 0.65, 0.71, 0.8, 0.9, 1.1)
Page = tuple[str, int]


@dataclass(frozen=True)
class Given:
    """What a question would be given: the answer and the pages that it cites, best first, or, when it is refused, the
    pages that are named and the words that are quoted of them. `evidence` decides which of the two.
    """

    question: str
    evidence: float
    answer: str
    cited: list[Page]
    named: list[Page]
    quoted: list[str]

    def page(self, asked: Asked, threshold: float) -> bool:
        """Whether the right page is given: cited first, or among those that the refusal names."""
        return asked.place in (self.named if self.refused(threshold) else self.cited[:1])

    def first(self, asked: Asked, threshold: float) -> bool:
        """Whether the first page that is given, cited or named, is the right one."""
        return asked.place in (self.named if self.refused(threshold) else self.cited)[:1]

    def value(self, asked: Asked, threshold: float) -> bool:
        """Whether the expected value is shown: in the answer, or in the words that the refusal quotes."""
        shown = self.quoted if self.refused(threshold) else [self.answer]
        return any(plain(asked.value) in plain(text) for text in shown)

    def refused(self, threshold: float) -> bool:
        """Whether the evidence is below the threshold."""
        return self.evidence < threshold


async def given(books: Library, client: ollama.AsyncClient, asked: Asked) -> Given:
    """Return both things that a question can be given."""
    found = await books.retriever.search(STORE, Question([asked.text], EXCERPTS, merge_neighbours=True))
    assert found.evidence is not None
    chunks = [
        Chunk(one.document.file_id, one.document.filename, one.chunk.page, one.chunk.text, one.score)
        for one in found.data
    ]
    answered = await answer(client, asked, chunks)
    passages = closest_passages(asked.text, chunks)
    return Given(
        asked.text,
        found.evidence.score,
        answered.text,
        [(citation.file_id, citation.page) for citation in answered.citations],
        [(passage.file_id, passage.page) for passage in passages],
        [passage.line for passage in passages],
    )


async def ask_all(folder: Path, questions: Sequence[Asked], kept: Path) -> None:
    """Ask every question, a few at once, as the model server computes them together, and add each to `kept`."""
    with platform_at(folder) as platform:
        platform.start("engine")
        url = platform.services["engine"].url
        wait_for_models(url)
        client, places = ollama.AsyncClient(host=url), asyncio.Semaphore(AT_ONCE)
        async with library(folder, platform) as books:

            async def one(asked: Asked) -> None:
                async with places:
                    row = json.dumps(asdict(await given(books, client, asked)))
                with kept.open("a", encoding="utf-8") as file:
                    file.write(row + "\n")

            await asyncio.gather(*(one(asked) for asked in questions))
        await client.close()  # type: ignore[no-untyped-call]


def read(kept: Path) -> dict[str, Given]:
    """Return what a file of outcomes has, by question."""
    rows = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    pages = ("cited", "named")
    return {row["question"]: Given(**row | {key: [tuple(page) for page in row[key]] for key in pages}) for row in rows}


def report(half: str, questions: Sequence[Asked], outcomes: dict[str, Given], thresholds: Sequence[float]) -> None:
    """Print for each threshold what the answerable questions of a half are given, and what the others.

    Differences are to the first threshold, question by question.
    """
    known = [(asked, outcomes[asked.text]) for asked in questions if asked.answerable]
    unknown = [outcomes[asked.text] for asked in questions if not asked.answerable]
    print(f"\n{half}, {len(known)} answerable and {len(unknown)} unanswerable questions")
    base = thresholds[0]
    for threshold in thresholds:
        refused = sum(one.refused(threshold) for _, one in known)
        pages = np.array([float(one.page(asked, threshold)) for asked, one in known])
        values = np.array([float(one.value(asked, threshold)) for asked, one in known])
        first_pages = sum(one.first(asked, threshold) for asked, one in known)
        wrong = sum(not one.refused(threshold) and not one.value(asked, threshold) for asked, one in known)
        more_pages = interval(pages - [one.page(asked, base) for asked, one in known])
        more_values = interval(values - [one.value(asked, base) for asked, one in known])
        answered = [one for one in unknown if not one.refused(threshold)]
        cited = sum(bool(one.cited) for one in answered)
        print(
            f"{threshold:.2f}: answerable: refused {refused}, "
            f"right page {pages.sum():.0f} ({more_pages}), first {first_pages}, "
            f"right value {values.sum():.0f} ({more_values}), answered wrongly {wrong}; "
            f"unanswerable: refused {len(unknown) - len(answered)}, "
            f"answered without a citation {len(answered) - cited}, with one {cited}"
        )


def main() -> None:
    """Read the command line, ask what is not kept yet, and report."""
    parser = argparse.ArgumentParser(description="Measure what a person gets at each evidence threshold.")
    parser.add_argument("--thresholds", type=float, nargs="+", default=THRESHOLDS)
    parser.add_argument("--keep", type=Path, help="a JSONL file of outcomes, read first and added to")
    arguments = parser.parse_args()
    questions = read_questions()
    with tempfile.TemporaryDirectory() as name:
        kept = arguments.keep or Path(name) / "outcomes.jsonl"
        if missing := [asked for asked in questions if asked.text not in read(kept)]:
            asyncio.run(ask_all(Path(name), missing, kept))
        outcomes = read(kept)
    for half, asked in zip(("tuning", "held out"), halves(questions), strict=True):
        report(half, asked, outcomes, arguments.thresholds)


if __name__ == "__main__":
    main()
