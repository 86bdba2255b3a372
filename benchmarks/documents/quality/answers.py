"""Whether the small model answers rightly and cites the right page: `python -m benchmarks.documents.quality.answers`.

Asks the held-out half of the question set through the gateway's own prompt and citations, with one to three excerpts
(`--excerpts`), at temperature 0. An answer is right when it has the expected value; a citation is right when its first
entry names the page that is known to answer. What the evidence refuses is counted and not asked.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ollama
from benchmarks.documents.quality.questions import Asked, halves, read_questions
from benchmarks.documents.quality.store import STORE, Library, library

from tunesmith_gateway.citations import Chunk, Citation, cite
from tunesmith_gateway.prompts import grounded
from tunesmith_rag.ranking import Question
from tunesmith_shared.testing import platform_at, wait_for_models

MODEL = "smollm2:135m"
LONGEST = 60
AT_ONCE = 4


@dataclass(frozen=True)
class Answered:
    """A question, the excerpts it was answered from (none when it was refused), the answer and its citations."""

    asked: Asked
    chunks: list[Chunk]
    text: str
    citations: list[Citation]

    @property
    def right(self) -> bool:
        """Whether the expected value is in the answer."""
        return self.asked.answerable and plain(self.asked.value) in plain(self.text)

    @property
    def page_right(self) -> bool:
        """Whether the first citation names the known page."""
        return (self.citations[0].file_id, self.citations[0].page) == self.asked.place


async def excerpts(books: Library, asked: Asked, count: int) -> list[Chunk]:
    """Return what the gateway would get for a question; nothing when the evidence does not suffice."""
    found = await books.retriever.search(STORE, Question([asked.text], count, merge_neighbours=True))
    if found.evidence is None or not found.evidence.sufficient:
        return []
    return [
        Chunk(one.document.file_id, one.document.filename, one.chunk.page, one.chunk.text, one.score)
        for one in found.data
    ]


async def answer(client: ollama.AsyncClient, asked: Asked, chunks: list[Chunk]) -> Answered:
    """Ask the model as the gateway does."""
    if not chunks:
        return Answered(asked, [], "", [])
    messages = [{"role": "user", "content": grounded(asked.text, chunks)}]
    options = {"temperature": 0.0, "num_predict": LONGEST}
    text = (await client.chat(MODEL, messages, options=options)).message.content or ""
    return Answered(asked, chunks, text, cite(asked.text, text, chunks))


async def answer_all(books: Library, url: str, questions: Sequence[Asked], count: int) -> list[Answered]:
    """Ask every question, a few at once, as the model server computes them together."""
    client, places = ollama.AsyncClient(host=url), asyncio.Semaphore(AT_ONCE)

    async def one(asked: Asked) -> Answered:
        async with places:
            return await answer(client, asked, await excerpts(books, asked, count))

    try:
        return await asyncio.gather(*(one(asked) for asked in questions))
    finally:
        await client.close()  # type: ignore[no-untyped-call]


def report(count: int, answers: Sequence[Answered]) -> None:
    """Print how many questions were answered, answered rightly, cited and cited rightly."""
    given = [one for one in answers if one.chunks]
    cited = [one for one in given if one.citations]
    found = [one for one in given if one.asked.place in [(chunk.file_id, chunk.page) for chunk in one.chunks]]
    right, pages = sum(one.right for one in given), sum(one.page_right for one in cited)
    print(
        f"{count} excerpts: {len(given)} of {len(answers)} asked; the page is among the excerpts of {len(found)}; "
        f"right {right} ({right / len(given):.0%}); cited {len(cited)}, "
        f"page right {pages} ({pages / max(1, len(cited)):.1%} of cited)"
    )


async def measure(folder: Path, half: str, counts: Sequence[int], keep: Path | None) -> None:
    """Fill, ask, report."""
    tuning, held_out = halves(read_questions())
    questions = [asked for asked in (tuning if half == "tuning" else held_out) if asked.answerable]
    with platform_at(folder) as platform:
        platform.start("engine")
        url = platform.services["engine"].url
        wait_for_models(url)
        async with library(folder, platform) as books:
            for count in counts:
                answers = await answer_all(books, url, questions, count)
                report(count, answers)
                if keep is not None:
                    rows = [json.dumps({"excerpts": count, **asdict(one)}) for one in answers]
                    with keep.open("a", encoding="utf-8") as file:
                        file.write("\n".join(rows) + "\n")


def plain(text: str) -> str:
    """Return a text as values are looked for in it: small letters, no commas, single spaces."""
    return " ".join(text.lower().replace(",", "").split())


def main() -> None:
    """Read the command line, measure, and leave nothing behind."""
    parser = argparse.ArgumentParser(description="Measure grounded answers and their citations.")
    parser.add_argument("--half", choices=["tuning", "held-out"], default="held-out")
    parser.add_argument("--excerpts", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--keep", type=Path, help="a JSONL file to add the answers to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(Path(name), arguments.half, arguments.excerpts, arguments.keep))


if __name__ == "__main__":
    main()
