"""The tokens that a request takes, read from what the model server says of its answers.

A request's `Spending` is in a context variable, as its id is, so that every call to the model server counts into it:
relays, samples that run at once, turns with documents.
"""

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

# A quote inside a JSON string has a backslash before it, so an answer's text cannot match.
_COUNT = re.compile(rb'"(total_tokens|completion_tokens|prompt_eval_count|eval_count)":\s*(\d+)')
_NO_CHOICES = re.compile(rb'"choices":\s*\[\]')


@dataclass
class Spending:
    """The tokens that one request's generations took, and those of them that they wrote.

    `metered` says whether a limit depends on them.
    """

    metered: bool
    tokens: int = 0
    written: int = 0


spending: ContextVar[Spending | None] = ContextVar("spending", default=None)


def metered() -> bool:
    """Return whether the tokens of the current request are to be counted."""
    current = spending.get()
    return current is not None and current.metered


def count(answer: object) -> None:
    """Count the tokens of a whole answer, OpenAI's or Ollama's, or of a stream's part that has them."""
    current = spending.get()
    if current is None or not isinstance(answer, dict):
        return
    usage = answer.get("usage")
    if isinstance(usage, dict):
        current.tokens += int(usage.get("total_tokens") or 0)
        current.written += int(usage.get("completion_tokens") or 0)
    else:
        written = int(answer.get("eval_count") or 0)
        current.tokens += int(answer.get("prompt_eval_count") or 0) + written
        current.written += written


def count_tail(tail: bytes, pieces: int) -> None:
    """Count the tokens that the last bytes of a relayed answer name.

    A stream that its client left names none: each of its `pieces` is a token then.
    """
    current = spending.get()
    if current is None:
        return
    start = max(0, tail.rfind(b'"usage"'))  # OpenAI's counts are in there, so the text before need not be searched
    last = {name: int(number) for name, number in _COUNT.findall(tail, start)}
    native = last.get(b"prompt_eval_count", 0) + last.get(b"eval_count", 0)
    current.tokens += last.get(b"total_tokens", native if last else pieces)
    current.written += last.get(b"completion_tokens", last.get(b"eval_count", 0) if last else pieces)


class HiddenUsage:
    """Takes the usage event out of a stream whose client did not ask for it: it has no choices, which clients expect.

    Bytes in, bytes out; an event that has not ended yet is held back.
    """

    def __init__(self) -> None:
        self._rest = b""

    def pass_on(self, chunk: bytes) -> bytes:
        """Return what of the stream so far may be sent."""
        if not self._rest and chunk.endswith(b"\n\n") and b'"usage"' not in chunk:
            return chunk  # nearly always: whole events, and none that names tokens
        *events, self._rest = (self._rest + chunk).split(b"\n\n")
        return b"".join(event + b"\n\n" for event in events if not _NO_CHOICES.search(event))

    def ending(self) -> bytes:
        """Return what is left at the end of the stream."""
        return self._rest
