"""Self-consistency: five samples in one request, beside the five requests with the same seeds that they stand for."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.load import open_session, prompts, request, whole
from benchmarks.serving.targets import SLOTS, Target

from tunesmith_gateway.self_consistency import medoid, rank

SAMPLES = 5
_TEMPERATURE = 0.7
_NOTES = (
    "The harbour office keeps a log of every ship. {number} ships came in during the spring, most of them with timber "
    "from the north, a few with salt and wine. The oldest pilot says that the channel has moved twice in his time, "
    "once after a great storm and once so slowly that nobody saw. The lighthouse was built after the second of these, "
    "on the rock where three ships had been lost. Last year the town decided to open it to visitors.\n\n"
    "Explain to a visitor what the lighthouse has to do with the channel, and what there is to see."
)


@dataclass(frozen=True)
class Consistency:
    """Seconds of one request for five samples and of five single requests; how many of the texts were the same.

    `same_winner` says whether both ways give the same answer.
    """

    together: float
    singles: float
    same_texts: int
    same_winner: bool
    prompt_tokens: int


def measure(target: Target, number: int, tokens: int) -> Consistency:
    """Ask both ways for answers of `tokens` tokens; neither finds the prompt in a cache.

    Where `number` is even the one request comes first.
    """
    return asyncio.run(_measure(target, number, tokens))


async def _measure(target: Target, number: int, tokens: int) -> Consistency:
    body = request(_NOTES.format(number=30 + number), tokens)
    body |= {"temperature": _TEMPERATURE, "seed": 100 * number}
    ways = {"together": _together, "singles": _singles}
    seconds: dict[str, float] = {}
    answers: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(ways, reverse=number % 2 == 0):
        await _forget(target, number)
        began = time.perf_counter()
        answers[name] = await ways[name](target, body)
        seconds[name] = time.perf_counter() - began
    [answer] = answers["together"]
    singles = [single["choices"][0]["message"]["content"] for single in answers["singles"]]
    samples = [candidate["content"] for candidate in answer["tunesmith"]["candidates"]]
    return Consistency(
        together=seconds["together"],
        singles=seconds["singles"],
        same_texts=sum(sample == single for sample, single in zip(samples, singles, strict=True)),
        same_winner=answer["choices"][0]["message"]["content"] == singles[medoid(rank(singles))],
        prompt_tokens=answer["usage"]["prompt_tokens"],
    )


async def _together(target: Target, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with open_session() as session:
        return [await whole(session, target, {**body, "self_consistency": {"samples": SAMPLES}})]


async def _singles(target: Target, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with open_session() as session:
        return [await whole(session, target, {**body, "seed": body["seed"] + index}) for index in range(SAMPLES)]


async def _forget(target: Target, number: int) -> None:
    """Have every slot read something else at once, so that no slot has the next prompt any more."""
    texts = prompts(10**6 + 100 * number)
    async with open_session() as session:
        await asyncio.gather(*(whole(session, target, request(next(texts), 8)) for _ in range(SLOTS)))
