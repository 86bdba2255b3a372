"""The load: clients that each send the next request when their answer is whole, and what they see."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
from benchmarks.serving.targets import Target

MODEL = "smollm2:135m"
TOKENS = 64
_PATH = "/v1/chat/completions"
_TOPICS = ("a lighthouse", "two rivers", "an old train", "the north wind", "a bakery", "a lost map", "snow", "a violin")


@dataclass(frozen=True)
class Seen:
    """One answer: seconds to its first text, and how many pieces of text it had, each of which is a token."""

    first: float
    pieces: int


@dataclass(frozen=True)
class Consistency:
    """Seconds of one request for five samples, of five single requests, and whether texts and winner were the same."""

    together: float
    singles: float
    same: bool


def prompts(start: int) -> Iterator[str]:
    """Prompts that nobody has sent before: no server has them in its cache."""
    for number in count(start):
        yield f"Tell me story number {number} about {_TOPICS[number % len(_TOPICS)]}, as long as you can."


async def tokens_per_second(target: Target, clients: int, each: int, start: int) -> float:
    """Answers of `TOKENS` tokens for `clients` at once, `each` so many one after another, from prompt `start` on."""
    texts = prompts(start)

    async def client(session: aiohttp.ClientSession) -> int:
        seen = [await _ask(session, target, next(texts), TOKENS) for _ in range(each)]
        return sum(one.pieces for one in seen)

    async with _session() as session:
        began = time.perf_counter()
        pieces = await asyncio.gather(*(client(session) for _ in range(clients)))
        return sum(pieces) / (time.perf_counter() - began)


async def first_token(target: Target, times: int) -> float:
    """The median of the seconds to the first text for one client, of a prompt that the server has read before.

    Reading a new prompt takes the same everywhere and varies by more than what is looked for here.
    """
    async with _session() as session:
        seen = [await _ask(session, target, "Why is the sky blue?", 4) for _ in range(times + 1)]
    return statistics.median(one.first for one in seen[1:])


async def consistency(target: Target, seed: int) -> Consistency:
    """Five samples in one request, and the five requests that they stand for."""
    body = {**_body("Write a short paragraph about lighthouses.", TOKENS), "temperature": 0.7}
    async with _session() as session:
        began = time.perf_counter()
        singles = [await _whole(session, target, {**body, "seed": seed + number}) for number in range(5)]
        after = time.perf_counter()
        answer = await _whole(session, target, {**body, "seed": seed, "self_consistency": {"samples": 5}})
        ended = time.perf_counter()
    texts = [single["choices"][0]["message"]["content"] for single in singles]
    candidates = answer["tunesmith"]["candidates"]
    best = max(range(5), key=lambda number: candidates[number]["score"])
    same = [one["content"] for one in candidates] == texts
    same = same and answer["choices"][0]["message"]["content"] == texts[best]
    return Consistency(ended - after, after - began, same)


def _session() -> aiohttp.ClientSession:
    """A new connection a request: llama.cpp's server closes one after each stream, whatever it promises."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600), connector=connector)


def _body(prompt: str, tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": MODEL, "messages": messages, "max_tokens": tokens, "temperature": 0, "seed": 1}


async def _ask(session: aiohttp.ClientSession, target: Target, prompt: str, tokens: int) -> Seen:
    body = {**_body(prompt, tokens), "stream": True}
    began, first, pieces = time.perf_counter(), 0.0, 0
    async with session.post(target.url + _PATH, json=body, headers=target.headers) as response:
        response.raise_for_status()
        async for line in response.content:
            text = line.replace(b'": "', b'":"')  # one of the servers writes spaces
            if b'"content":"' in text and b'"content":""' not in text:
                first = first or time.perf_counter() - began
                pieces += 1
    return Seen(first, pieces)


async def _whole(session: aiohttp.ClientSession, target: Target, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(target.url + _PATH, json=body, headers=target.headers) as response:
        response.raise_for_status()
        answer: dict[str, Any] = await response.json()
        return answer
