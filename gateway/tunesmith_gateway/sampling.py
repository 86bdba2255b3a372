"""Several generations of one prompt at once, and the one of them that answers.

The samples run side by side, so that the server computes them as one batch, and where it can reads their prompt once
for all. With a seed, sample i has the seed + i:
the samples differ, and the same request gives the same winner again.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import orjson

from tunesmith_gateway.chat import ChatService, Generated, Turn
from tunesmith_gateway.choices import together
from tunesmith_gateway.self_consistency import Candidate, SelfConsistency, medoid, rank
from tunesmith_gateway.sse import DONE, event
from tunesmith_shared.errors import BadRequest, UpstreamFailed

Json = dict[str, Any]


async def whole(parts: AsyncGenerator[str | Generated]) -> Generated:
    """Return the end of one generation, its pieces passed over."""
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Generated):
                return part
    raise UpstreamFailed("The model gave no answer.")


async def consistent_text(
    chat: ChatService, turn: Turn, options: Json, wanted: SelfConsistency
) -> tuple[Generated, list[Candidate]]:
    """Return the winner among samples of a turn under `options`, and all of them with their scores.

    One request asks for all samples; what it leaves out comes from requests of their own.
    """
    each = seeded(options, wanted.samples)
    samples = await chat.choices(turn, each[0], len(each)) if len(each) > 1 else []
    samples += await together([whole(chat.generate(turn, one)) for one in each[len(samples) :]])
    candidates = await asyncio.to_thread(rank, [sample.text for sample in samples])
    best = samples[medoid(candidates)]
    spent = sum(sample.completion_tokens for sample in samples)
    return Generated(best.text, best.prompt_tokens, spent), candidates


async def consistent_answer(
    ask: Callable[[Json, int], Coroutine[Any, Any, Json]], body: Json, wanted: SelfConsistency
) -> Json:
    """Return the chat completion that wins, with every candidate under `tunesmith` and all tokens in the usage.

    Raises `BadRequest` for a request with tools: calls are no texts that could be compared.
    """
    if body.get("tools"):
        raise BadRequest("self_consistency compares texts: leave the tools out.", param="self_consistency")
    single = {name: value for name, value in body.items() if name not in ("n", "stream", "stream_options")}
    answer = await ask(seeded(single, 1)[0], wanted.samples)
    texts = [choice["message"].get("content") or "" for choice in answer["choices"]]
    candidates = await asyncio.to_thread(rank, texts)
    answer["choices"] = [{**answer["choices"][medoid(candidates)], "index": 0}]
    answer["tunesmith"] = {"candidates": shown(candidates)}
    return answer


def in_chunks(answer: Json, *, include_usage: bool) -> Iterator[bytes]:
    """Yield a whole chat completion as the events of a stream: the text, its end with our fields, the usage."""
    head = {**{name: answer[name] for name in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    choice = answer["choices"][0]
    message = dict(choice["message"])
    last = {"annotations": message.pop("annotations", [])}
    text = {"index": 0, "delta": message, "logprobs": choice.get("logprobs"), "finish_reason": None}
    end = {"index": 0, "delta": last, "finish_reason": choice["finish_reason"]}
    yield event(orjson.dumps({**head, "choices": [text]}))
    yield event(orjson.dumps({**head, "choices": [end], "tunesmith": answer["tunesmith"]}))
    if include_usage:
        yield event(orjson.dumps({**head, "choices": [], "usage": answer.get("usage")}))
    yield event(DONE)


def seeded(options: Json, count: int) -> list[Json]:
    """Return `options` for each of `count` samples: with the seed + i, counted from a random one when there is none.

    A random one, because a model can have a seed of its own, under which all samples would be the same.
    """
    seed = options.get("seed")
    first = seed if isinstance(seed, int) else secrets.randbelow(2**30)
    return [{**options, "seed": first + index} for index in range(count)]


def shown(candidates: Sequence[Candidate]) -> list[Json]:
    """Return candidates as answers show them."""
    return [asdict(candidate) for candidate in candidates]
