"""What of a session's history fits a model's context, by the model server's own counts.

Ollama has no route that counts tokens. So each stored message keeps what its turn's counts say that it takes, and a
history that is clearly short enough goes out without a question. Near the limit the model server is asked: the same
prompt with `truncate: false` and one token to generate. A refusal costs a tokenisation; a prompt that fits stays in
the server's prompt cache, where the turn that follows finds it. That works against any Ollama: the numbers in this
engine's refusals only save attempts.
"""

import re
from dataclasses import dataclass
from typing import Any

from tunesmith_gateway.backends.table import BackendTable
from tunesmith_gateway.usage import spending
from tunesmith_shared.errors import BadRequest
from tunesmith_shared.tables import Message

Json = dict[str, Any]

_REFUSAL = re.compile(r"has (\d+) tokens and the context holds (\d+)")
_PER_MESSAGE = 16  # tokens that a chat template puts around a message, at the most
_BYTES_PER_TOKEN = 4  # of a message whose tokens nobody counted
_DEFAULT_ROOM = 256


@dataclass(frozen=True)
class Prompt:
    """What a turn sends beside its history: `lead` before and `rest` behind it.

    `room` is how many tokens the answer may take, `num_ctx` the context that the request asks for; None is the
    model's own.
    """

    owner: str
    model: str
    lead: list[Json]
    rest: list[Json]
    room: int | None = None
    num_ctx: int | None = None

    def with_history(self, history: list[Message]) -> list[Json]:
        """Return the messages as they are sent."""
        return [*self.lead, *({"role": row.role, "content": row.content} for row in history), *self.rest]


@dataclass(frozen=True)
class _Counted:
    """What the model server says of a prompt: whether it takes it, its tokens and its context, where it tells them."""

    fits: bool
    tokens: int | None
    context: int | None


class ContextFitter:
    """Leaves out the oldest messages until a prompt fits."""

    def __init__(self, backends: BackendTable) -> None:
        self._backends = backends

    async def fit(self, prompt: Prompt, history: list[Message]) -> list[Message]:
        """Return the newest messages of `history` that fit beside `prompt` with room for the answer.

        Nothing else is left out: a prompt that is too long by itself is for the model server to refuse.
        """
        kept = history
        context = prompt.num_ctx or (await self._context(prompt) if history else None)
        while kept:
            if context is not None and _at_most(prompt, kept) + _room(prompt, context) <= context:
                return kept
            counted = await self._count(prompt, kept)
            context = counted.context or context or await self._context(prompt)
            if context is None:  # an Ollama that does not tell it: what it takes, fits
                if counted.fits:
                    return kept
                excess = 1
            else:
                tokens = counted.tokens or max(_estimate(prompt, kept), context + 1)
                excess = tokens + _room(prompt, context) - context
                if counted.fits and excess <= 0:
                    return kept
            kept = without_oldest(kept, excess)
        return kept

    async def fits(self, prompt: Prompt) -> bool:
        """Say whether `prompt` fits without any history, with room for the answer."""
        context = prompt.num_ctx or await self._context(prompt)
        if context is not None and _at_most(prompt, []) + _room(prompt, context) <= context:
            return True
        counted = await self._count(prompt, [])
        context = counted.context or context or await self._context(prompt)
        if context is None or counted.tokens is None:
            return counted.fits
        return counted.fits and counted.tokens + _room(prompt, context) <= context

    async def _count(self, prompt: Prompt, history: list[Message]) -> _Counted:
        options = {"num_predict": 1} | ({"num_ctx": prompt.num_ctx} if prompt.num_ctx else {})
        body = {
            "model": prompt.model,
            "messages": prompt.with_history(history),
            "options": options,
            "stream": False,
            "truncate": False,
        }
        paused = spending.set(None)  # the turn that follows pays for these tokens
        try:
            answer = await self._backends.route(prompt.model).call("POST", "/api/chat", owner=prompt.owner, body=body)
        except BadRequest as error:
            numbers = _REFUSAL.search(error.message)
            if numbers is None and "context" not in error.message:
                raise
            return _Counted(False, *(map(int, numbers.groups()) if numbers else (None, None)))
        finally:
            spending.reset(paused)
        return _Counted(True, answer.get("prompt_eval_count"), None)

    async def _context(self, prompt: Prompt) -> int | None:
        """Return the context with which the model runs, in tokens; None when it does not, or nobody says."""
        return await self._backends.route(prompt.model).context()


def without_oldest(history: list[Message], excess: int) -> list[Message]:
    """Return `history` without its oldest messages, which take at least `excess` tokens; it begins with a question."""
    dropped = start = 0
    while start < len(history) and (dropped < max(1, excess) or history[start].role != "user"):
        dropped += _tokens(history[start])
        start += 1
    return history[start:]


def shares(prompt_tokens: int, prompt: Prompt, history: list[Message], texts: list[str]) -> list[int | None]:
    """Return what each of `texts` takes of `prompt_tokens`, the count of a whole prompt with `history`.

    What the history does not take is shared out by length; the first turn's share so has the system prompt in it.
    """
    new = prompt_tokens - sum(map(_tokens, history))
    size = sum(_size(message) for message in (*prompt.lead, *prompt.rest))
    if prompt_tokens <= 0 or size == 0:
        return [None for _ in texts]
    return [max(1, round(new * len(text.encode()) / size)) for text in texts]


def _room(prompt: Prompt, context: int) -> int:
    """Return the tokens to leave for the answer: what it asks for, and a quarter of the context at the most."""
    return min(prompt.room or _DEFAULT_ROOM, context // 4)


def _at_most(prompt: Prompt, history: list[Message]) -> int:
    """Return a number of tokens that a prompt does not exceed: counted ones, and a token a byte of the others."""
    counted = sum(row.tokens if row.tokens is not None else len(row.content.encode()) for row in history)
    new = (*prompt.lead, *prompt.rest)
    return counted + sum(map(_size, new)) + _PER_MESSAGE * (len(history) + len(new))


def _estimate(prompt: Prompt, history: list[Message]) -> int:
    """Return about what a prompt takes that was refused without numbers; rather less, so as not to drop too much."""
    new = sum(_size(message) for message in (*prompt.lead, *prompt.rest))
    return sum(map(_tokens, history)) + new // _BYTES_PER_TOKEN


def _tokens(row: Message) -> int:
    return row.tokens if row.tokens is not None else len(row.content.encode()) // _BYTES_PER_TOKEN + _PER_MESSAGE


def _size(message: Json) -> int:
    content = message.get("content") or ""
    parts = [content] if isinstance(content, str) else [str(part.get("text", "")) for part in content]
    return sum(len(part.encode()) for part in parts)
