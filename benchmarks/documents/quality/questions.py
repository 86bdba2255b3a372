"""The question set over the example documents: what is asked, where the answer stands, and which half is for tuning."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
EXAMPLES = FOLDER.parents[2] / "examples"
SOURCES = {
    "handbook": EXAMPLES / "handbook.md",
    **{path.stem: path for path in sorted((FOLDER / "corpus").glob("*.md"))},
}
"""The documents by name; each is rendered to PDF by `examples/render.py`."""


@dataclass(frozen=True)
class Asked:
    """A question. `kind` is plain, paraphrased or keyword, or, without an answer, near (about what the documents speak
    of) or off (about something else). `page` counts from 1; `quote` are the words on it that answer, `value` what an
    answer must contain.
    """

    text: str
    kind: str
    document: str
    page: int
    quote: str
    value: str

    @property
    def answerable(self) -> bool:
        """Whether the documents answer it."""
        return bool(self.document)

    @property
    def place(self) -> tuple[str, int]:
        """The document and the page that answer it."""
        return self.document, self.page


def read_questions() -> list[Asked]:
    """Return all questions."""
    with (FOLDER / "questions.csv").open(encoding="utf-8", newline="") as file:
        return [
            Asked(row["question"], row["kind"], row["document"], int(row["page"] or 0), row["quote"], row["value"])
            for row in csv.DictReader(file, strict=True)
        ]


def halves(questions: list[Asked]) -> tuple[list[Asked], list[Asked]]:
    """Return the tuning half and the held-out half: of each kind, in the order of the file, every second question.

    Thresholds, weights and coefficients are chosen on the first; figures are reported on the second.
    """
    tuning: list[Asked] = []
    held_out: list[Asked] = []
    seen = defaultdict[str, int](int)
    for asked in questions:
        (held_out if seen[asked.kind] % 2 else tuning).append(asked)
        seen[asked.kind] += 1
    return tuning, held_out
