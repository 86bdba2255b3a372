"""Multi-query: a chat model writes other versions of a question, so that one unlucky wording misses less.

The idea, and an answer with one version a line, are langchain's MultiQueryRetriever. The class itself does not serve
here: it searches each version by itself (ours go into one query of the index), has no time limit, and its prompt, which
shows no example, makes a small model answer the question instead.
"""

import asyncio
import re
from dataclasses import dataclass, field

import httpx
import ollama

from tunesmith_shared.tracing import http_hooks

_SYSTEM = (
    "You rewrite questions. For each question, write {count} other ways to ask the same question, one on each line. "
    "Never answer the question."
)
_EXAMPLES = {
    "How long may employees work from home?": [
        "What is the limit on remote work?",
        "How many days of home office are allowed?",
        "Is there a maximum time for working from home?",
    ],
    "Who repairs the coffee machine?": [
        "Which person fixes the coffee maker?",
        "Who is responsible for the repair of the coffee machine?",
        "Whom to call when the coffee machine is broken?",
    ],
    "When was the bridge built?": [
        "In which year was the bridge constructed?",
        "What is the date of the bridge's construction?",
        "How old is the bridge?",
    ],
}
_TOKENS_A_VERSION = 30
_NUMBERING = re.compile(r"^\s*(?:[-*\u2022]|\(?\d{1,2}[.):]|version \d+:|question:|rewrite:)\s*", re.IGNORECASE)
_LONGEST_VERSION = 300


@dataclass(frozen=True)
class Versions:
    """Other versions of a question, best guess first; `note` says why there are none."""

    questions: list[str] = field(default_factory=list)
    note: str | None = None


class Rewriter:
    """Asks a chat model behind Ollama's API, for `seconds` at the most."""

    def __init__(self, host: str, count: int, seconds: float) -> None:
        self._client = ollama.AsyncClient(host=host, **http_hooks())
        self._count = count
        self._seconds = seconds

    async def versions(self, question: str, model: str, count: int | None = None) -> Versions:
        """Return up to `count` other versions of `question`, by default as many as the rewriter was made for.

        Never raises for what the model or its server does.
        """
        count = count or self._count
        try:
            async with asyncio.timeout(self._seconds):
                written = await self._client.chat(
                    model,
                    _conversation(question, count),
                    options={"temperature": 0.0, "num_predict": _TOKENS_A_VERSION * count},
                )
        except TimeoutError:
            return Versions(
                note=f"The question was searched as it is: {model} took longer than {self._seconds:g} s to rewrite it."
            )
        except (ollama.ResponseError, httpx.HTTPError, ConnectionError) as error:
            return Versions(note=f"The question was searched as it is: {model} could not rewrite it ({error}).")
        found = read_versions(written.message.content or "", question)[:count]
        return Versions(
            found, None if found else f"The question was searched as it is: {model} wrote no other version of it."
        )

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.close()  # type: ignore[no-untyped-call]


def _conversation(question: str, count: int) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": _SYSTEM.format(count=count)}]
    for asked, versions in _EXAMPLES.items():
        messages.append({"role": "user", "content": f"Rewrite: {asked}"})
        messages.append({"role": "assistant", "content": "\n".join(versions)})
    return [*messages, {"role": "user", "content": f"Rewrite: {question}"}]


def read_versions(text: str, question: str) -> list[str]:
    """Return the distinct questions that a model's answer lists, without numbering, quotes and the question itself."""
    versions: dict[str, str] = {}
    for line in text.splitlines():
        version = _NUMBERING.sub("", line).strip(" \"'*")
        if 3 <= len(version) <= _LONGEST_VERSION and version.casefold() != question.strip().casefold():
            versions.setdefault(version.casefold(), version)
    return list(versions.values())
