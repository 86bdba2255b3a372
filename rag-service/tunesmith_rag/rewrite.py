"""Multi-query: a chat model writes other versions of a question, so that one unlucky wording misses less.

The idea and the line-by-line answer are langchain's MultiQueryRetriever. That class itself does not serve here: it
searches each version by itself (ours go into one query of the index), has no time limit, and importing its package
takes three seconds.
"""

import asyncio
import re
from dataclasses import dataclass, field

import httpx
import ollama
from langchain_core.prompts import PromptTemplate

_PROMPT = PromptTemplate.from_template(
    """Write {count} different versions of the question for a search by meaning. Keep its meaning and its names.
Use other words. One version a line, nothing else.

Question: How long may employees work from home?
What is the limit on remote work?
How many days of home office are allowed?
Is working from home restricted, and to how long?

Question: {question}
"""
)
_TOKENS_A_VERSION = 40
_NUMBERING = re.compile(r"^\s*(?:[-*\u2022]|\(?\d{1,2}[.):]|version \d+:|question:)\s*", re.IGNORECASE)
_LONGEST_VERSION = 300


@dataclass(frozen=True)
class Versions:
    """Other versions of a question, best guess first; `note` says why there are none."""

    questions: list[str] = field(default_factory=list)
    note: str | None = None


class Rewriter:
    """Asks a chat model behind Ollama's API, for `seconds` at the most."""

    def __init__(self, host: str, count: int, seconds: float) -> None:
        self._client = ollama.AsyncClient(host=host)
        self._count = count
        self._seconds = seconds

    async def versions(self, question: str, model: str) -> Versions:
        """Return up to `count` other versions of `question`; never raises for what the model or its server does."""
        try:
            async with asyncio.timeout(self._seconds):
                written = await self._client.generate(
                    model,
                    _PROMPT.format(count=self._count, question=question),
                    options={
                        "temperature": 0.0,
                        "num_predict": _TOKENS_A_VERSION * self._count,
                        "stop": ["\n\n", "Question:"],
                    },
                )
        except TimeoutError:
            return Versions(
                note=f"The question was searched as it is: {model} took longer than {self._seconds:g} s to rewrite it."
            )
        except (ollama.ResponseError, httpx.HTTPError, ConnectionError) as error:
            return Versions(note=f"The question was searched as it is: {model} could not rewrite it ({error}).")
        found = read_versions(written.response or "", question)[: self._count]
        return Versions(
            found, None if found else f"The question was searched as it is: {model} wrote no other version of it."
        )

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.close()  # type: ignore[no-untyped-call]


def read_versions(text: str, question: str) -> list[str]:
    """Return the distinct questions that a model's answer lists, without numbering, quotes and the question itself."""
    versions: dict[str, str] = {}
    for line in text.splitlines():
        version = _NUMBERING.sub("", line).strip(" \"'*")
        if 3 <= len(version) <= _LONGEST_VERSION and version.casefold() != question.strip().casefold():
            versions.setdefault(version.casefold(), version)
    return list(versions.values())
