"""How well the right page is found, and what is refused: `python -m benchmarks.documents.quality.retrieval`.

Puts the five example documents into one store, asks the held-out half of the question set in every way to search, one
way after the other for each question so that all meet the same load, and prints recall@5, mean reciprocal rank, their
differences from plain dense search with paired bootstrap 95 % intervals, refusals, and times. Rewriting is done once
and timed apart. `--half tuning` asks the other half.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.documents.quality.measures import Outcome, interval
from benchmarks.documents.quality.questions import Asked, halves, read_questions
from benchmarks.documents.quality.store import STORE, Library, library

from tunesmith_rag.ranking import Question, Weights
from tunesmith_shared.testing import platform_at, wait_for_models

COUNT = 10
MODEL = "smollm2:135m"
REPEATS = 3
DENSE, HYBRID = Weights(1, 0), Weights(1, 1)


@dataclass(frozen=True)
class Way:
    """A way to search: its weights, whether the question is rewritten, and whether the later stages run."""

    weights: Weights
    rewritten: bool = False
    staged: bool = False

    def question(self, text: str) -> Question:
        """Return what to search for `text`; without evidence, unless the stages run, as a plain search has none."""
        plain = Question([text], COUNT, weights=self.weights, rewrite_model=MODEL if self.rewritten else None)
        return plain if self.staged else replace(plain, rerank=False, diversity=0.0, threshold=0.0)


WAYS = {
    "plain dense": Way(DENSE),
    "multi-query": Way(DENSE, rewritten=True),
    "hybrid": Way(HYBRID),
    "hybrid + multi-query": Way(HYBRID, rewritten=True),
    "default": Way(HYBRID, staged=True),
    "default + multi-query": Way(HYBRID, rewritten=True, staged=True),
}


async def ask(books: Library, questions: Sequence[Asked]) -> tuple[dict[str, Outcome], float]:
    """Ask every question in every way; return what was found, and the mean seconds of rewriting a question."""
    started = time.perf_counter()
    for asked in questions:
        await books.rewriter.versions(asked.text, MODEL)
    rewriting = (time.perf_counter() - started) / len(questions)
    outcomes = {name: Outcome() for name in WAYS}
    await books.retriever.search(STORE, Question(["warm-up"], COUNT))
    for asked in questions:
        for name, way in WAYS.items():
            question = way.question(asked.text)
            times = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                found = await books.retriever.search(STORE, question)
                times.append(time.perf_counter() - started)
            judged = await books.retriever.search(STORE, replace(question, threshold=None))
            assert judged.evidence is not None
            outcomes[name].seconds.append(sorted(times)[REPEATS // 2])
            outcomes[name].places.append([(result.chunk.document_id, result.chunk.page) for result in found.data])
            outcomes[name].sufficient.append(judged.evidence.sufficient)
    return outcomes, rewriting


def report(questions: Sequence[Asked], outcomes: dict[str, Outcome]) -> None:
    """Print a line for each way."""
    plain = outcomes["plain dense"]
    against = f"{'against plain dense':<24}"
    print(f"{'way':<23}{'recall@5':>9}  {against}{'MRR':>6}  {against}{'time':>7} ratio")
    for name, outcome in outcomes.items():
        recall, rank = outcome.recall(questions), outcome.reciprocal_rank(questions)
        gains = interval(recall - plain.recall(questions)), interval(rank - plain.reciprocal_rank(questions))
        print(
            f"{name:<23}{recall.mean():>9.3f}  {gains[0]:<24}{rank.mean():>6.3f}  {gains[1]:<24}"
            f"{outcome.milliseconds:>4.0f} ms  {outcome.milliseconds / plain.milliseconds:.2f}"
        )
    for kind in ("plain", "keyword", "paraphrased"):
        chosen = [place for place, asked in enumerate(questions) if asked.kind == kind]
        recalls = []
        for name, outcome in outcomes.items():
            found = Outcome([outcome.places[place] for place in chosen])
            recalls.append(f"{name} {found.recall([questions[place] for place in chosen]).mean():.2f}")
        print(f"recall@5, {kind} ({len(chosen)}): " + ", ".join(recalls))


def report_refusals(questions: Sequence[Asked], outcome: Outcome) -> None:
    """Print what the default threshold refuses of each kind of question."""
    kinds = {kind: sum(asked.kind == kind for asked in questions) for kind in {asked.kind for asked in questions}}
    for name, chosen in (("unanswerable", {"near", "off"}), ("answerable", {"plain", "keyword", "paraphrased"})):
        parts = ", ".join(
            f"{kind} {outcome.refused(questions, {kind}):.0%} of {kinds[kind]}" for kind in sorted(chosen)
        )
        print(f"refused at the default threshold, {name}: {outcome.refused(questions, chosen):.0%} ({parts})")


async def measure(folder: Path, half: str) -> None:
    """Fill, ask, report."""
    tuning, held_out = halves(read_questions())
    questions = tuning if half == "tuning" else held_out
    with platform_at(folder) as platform:
        platform.start("engine")
        wait_for_models(platform.services["engine"].url)
        async with library(folder, platform) as books:
            answerable = sum(asked.answerable for asked in questions)
            print(f"{len(books.chunks)} chunks; {half} half: {answerable} questions with an answer, "
                  f"{len(questions) - answerable} without")  # fmt: skip
            outcomes, rewriting = await ask(books, questions)
            report(questions, outcomes)
            report_refusals(questions, outcomes["default"])
            print(f"rewriting a question: {rewriting:.2f} s")


def main() -> None:
    """Read the command line, measure, and leave nothing behind."""
    parser = argparse.ArgumentParser(description="Measure retrieval on the question set.")
    parser.add_argument("--half", choices=["tuning", "held-out"], default="held-out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(Path(name), arguments.half))


if __name__ == "__main__":
    main()
