"""Fit the evidence rule anew: `python -m benchmarks.documents.quality.fit`; the result goes into `evidence.py`.

A logistic regression with a small ridge penalty on the tuning half, answerable and unanswerable questions weighing the
same. Prints the coefficients, how often an answerable question has the higher score, and for several thresholds what
they refuse on both halves.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.documents.quality.questions import Asked, halves, read_questions
from benchmarks.documents.quality.store import STORE, Library, library

from tunesmith_rag.evidence import COEFFICIENTS
from tunesmith_rag.ranking import Question
from tunesmith_shared.testing import platform_at

COUNT = 10
RIDGE = 0.5
STEPS = 50
QUANTILES_OF_ANSWERABLE = (0.02, 0.05, 0.10)
QUANTILES_OF_UNANSWERABLE = (0.8, 0.9, 0.95)

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


async def signals(books: Library, questions: Sequence[Asked]) -> Array:
    """Return the signals of each question, a row a question, in the order of `COEFFICIENTS`."""
    rows = []
    for asked in questions:
        found = await books.retriever.search(STORE, Question([asked.text], COUNT))
        assert found.evidence is not None
        rows.append([found.evidence.signals[name] for name in COEFFICIENTS])
    return np.array(rows)


def fit(rows: Array, answerable: Array) -> Array:
    """Return intercept and coefficients by Newton's method; the penalty is on standardised signals."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    design = np.column_stack([np.ones(len(rows)), (rows - mean) / spread])
    weight = np.where(answerable > 0, 0.5 / answerable.mean(), 0.5 / (1 - answerable.mean()))
    penalty = RIDGE * np.diag([0.0, *np.ones(rows.shape[1])])
    found = np.zeros(design.shape[1])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-design @ found))
        curvature = (design.T * (weight * chance * (1 - chance))) @ design + penalty
        found += np.linalg.solve(curvature, design.T @ (weight * (answerable - chance)) - penalty @ found)
    scaled = found[1:] / spread
    return np.array([found[0] - scaled @ mean, *scaled])


def report(half: str, questions: Sequence[Asked], scores: Array, thresholds: dict[str, float]) -> None:
    """Print how well the scores tell, and what each threshold refuses of each kind of question."""
    answerable = np.array([asked.answerable for asked in questions])
    pairs = scores[answerable][:, None] - scores[~answerable][None, :]
    higher = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    print(f"\n{half}: an answerable question has the higher score in {higher:.1%} of pairs")
    for name, threshold in thresholds.items():
        refused = scores < threshold
        kinds = {
            kind: np.array([asked.kind == kind for asked in questions])
            for kind in dict.fromkeys(a.kind for a in questions)
        }
        shares = ", ".join(f"{kind} {refused[chosen].mean():.0%}" for kind, chosen in kinds.items())
        print(f"  {name}: threshold {threshold:.3f} refuses {refused[~answerable].mean():.0%} of the unanswerable and "
              f"{refused[answerable].mean():.0%} of the answerable ({shares})")  # fmt: skip


async def measure(folder: Path) -> None:
    """Fill, ask, fit, report."""
    tuning, held_out = halves(read_questions())
    with platform_at(folder) as platform:
        async with library(folder, platform) as books:
            rows = {"tuning": await signals(books, tuning), "held-out": await signals(books, held_out)}
    answerable = np.array([float(asked.answerable) for asked in tuning])
    found = fit(rows["tuning"], answerable)
    print(f"INTERCEPT = {found[0]:.2f}")
    print("COEFFICIENTS =", {name: round(float(value), 2) for name, value in zip(COEFFICIENTS, found[1:], strict=True)})
    scores = {half: 1 / (1 + np.exp(-(found[0] + values @ found[1:]))) for half, values in rows.items()}
    kept, unwanted = scores["tuning"][answerable > 0], scores["tuning"][answerable == 0]
    thresholds = {f"{q:.0%} of the answerable": float(np.quantile(kept, q)) for q in QUANTILES_OF_ANSWERABLE}
    thresholds |= {
        f"{q:.0%} of the unanswerable": float(np.quantile(unwanted, q, method="higher")) + 1e-6
        for q in QUANTILES_OF_UNANSWERABLE
    }
    report("tuning", tuning, scores["tuning"], thresholds)
    report("held-out", held_out, scores["held-out"], thresholds)


def main() -> None:
    """Fit, and leave nothing behind."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(Path(name)))


if __name__ == "__main__":
    main()
