"""The load: clients that each send the next request when their answer is whole, and what they see."""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import aiohttp
from benchmarks.serving.targets import Target

from tunesmith_engine.options import DEFAULTS

_PATH = "/v1/chat/completions"
_TOPICS = ("a lighthouse", "two rivers", "an old train", "the north wind", "a bakery", "a lost map", "snow", "a violin")
# What the engine asks llama.cpp for, whatever an OpenAI client says: said to every server, so that all do the same work
# for a token. Looking up repeated ones in the whole vocabulary is a good part of it.
_SAMPLING = {
    **{name: DEFAULTS[name] for name in ("top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n")},
    "top_p": 1.0,
}


@dataclass(frozen=True)
class Answered:
    """One answer: seconds to its first text, and how many pieces of text it had, each of which is a token."""

    first: float
    pieces: int


@dataclass(frozen=True)
class Load:
    """What several clients saw together: tokens a second, and the median of the seconds to the first text."""

    rate: float
    first: float


def prompts(start: int) -> Iterator[str]:
    """Prompts that nobody has sent before: no server has them in its cache."""
    for number in count(start):
        yield f"Tell me story number {number} about {_TOPICS[number % len(_TOPICS)]}, as long as you can."


async def put(target: Target, lengths: Sequence[int], clients: int, start: int) -> Load:
    """Have `clients` at once ask for answers of so many tokens one after another, to the prompts from `start` on."""
    texts = prompts(start)

    async def client(session: aiohttp.ClientSession) -> list[Answered]:
        return [await _ask(session, target, next(texts), tokens) for tokens in lengths]

    async with open_session() as session:
        began = time.perf_counter()
        answers = list(chain(*await asyncio.gather(*(client(session) for _ in range(clients)))))
        seconds = time.perf_counter() - began
    return Load(sum(one.pieces for one in answers) / seconds, statistics.median(one.first for one in answers))


async def first_token(target: Target, times: int) -> float:
    """The median of the seconds to the first text for one client, of a prompt that the server has read before.

    Reading a new prompt takes the same everywhere and varies by more than what is looked for here.
    """
    async with open_session() as session:
        seen = [await _ask(session, target, "Why is the sky blue?", 4) for _ in range(times + 1)]
    return statistics.median(one.first for one in seen[1:])


def open_session() -> aiohttp.ClientSession:
    """A new connection a request: llama.cpp's server closes one after each stream, whatever it promises."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600), connector=connector)


def request(prompt: str, tokens: int) -> dict[str, Any]:
    """The body of a request for the likeliest answer of whatever model the server has."""
    messages = [{"role": "user", "content": prompt}]
    return {"messages": messages, "max_tokens": tokens, "temperature": 0, **_SAMPLING}


async def whole(session: aiohttp.ClientSession, target: Target, body: dict[str, Any]) -> dict[str, Any]:
    """One answer that is not streamed."""
    body = {**body, "model": target.model}
    async with session.post(target.url + _PATH, json=body, headers=target.headers) as response:
        response.raise_for_status()
        answer: dict[str, Any] = await response.json()
        return answer


async def _ask(session: aiohttp.ClientSession, target: Target, prompt: str, tokens: int) -> Answered:
    body = {**request(prompt, tokens), "model": target.model, "stream": True}
    began, first, pieces = time.perf_counter(), 0.0, 0
    async with session.post(target.url + _PATH, json=body, headers=target.headers) as response:
        response.raise_for_status()
        async for line in response.content:
            text = line.replace(b'": "', b'":"')  # one of the servers writes spaces
            if b'"content":"' in text and b'"content":""' not in text:
                first = first or time.perf_counter() - began
                pieces += 1
    return Answered(first, pieces)
