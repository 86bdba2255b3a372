"""Several choices of one request (``n``): generations that read their prompt once together.

llama.cpp computes the prompt for the first of a group and copies its state to the others. A group is as large as there
are free slots, so that no slot is idle while choices wait. Choice i has the seed + i, as a request of its own would.
"""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import orjson

from tunesmith_engine.completions import event_data, generation
from tunesmith_engine.options import Options
from tunesmith_engine.process import ModelProcess, RunnerFailed
from tunesmith_engine.slots import Lease, Slots

Json = dict[str, Any]
_Chunks = asyncio.Queue[Json | Exception | None]


async def choice_chunks(
    process: ModelProcess, slots: Slots, path: str, body: Options, count: int
) -> AsyncGenerator[Json, None]:
    """The chunks of ``count`` choices as they come, each choice under its own index, with a usage for each.

    Raises RunnerFailed and BadRequest; whatever else is generated for the request stops then.
    """
    chunks: _Chunks = asyncio.Queue(maxsize=64)
    work = asyncio.create_task(_generate(process, slots, path, body, count, chunks))
    try:
        while (chunk := await chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _generate(process: ModelProcess, slots: Slots, path: str, body: Options, count: int, chunks: _Chunks) -> None:
    """Start groups as slots become free, and end the chunks with None or the first failure."""
    started = 0
    try:
        async with asyncio.TaskGroup() as groups:
            while started < count:
                lease = await slots.take(count - started)
                request = _numbered(body, started, lease.count)
                group = groups.create_task(_read(process, path, request, started, lease, chunks))
                group.add_done_callback(partial(_close, lease))  # also of one that never began
                started += lease.count
        await chunks.put(None)
    except* Exception as failures:
        await chunks.put(_first(failures))


def _close(lease: Lease, _: asyncio.Task[None]) -> None:
    lease.close()


def _numbered(body: Options, offset: int, count: int) -> Options:
    """The request for ``count`` choices, from the one with this number on."""
    seed = body.get("seed")
    seeded = {"seed": seed + offset} if isinstance(seed, int) and seed >= 0 else {}
    return {**body, **seeded, "n": count, "stream_options": {"include_usage": True}}


async def _read(process: ModelProcess, path: str, body: Options, offset: int, lease: Lease, chunks: _Chunks) -> None:
    """Pass on the chunks of one group, and give each slot back when its choice is finished."""
    async with generation(process, path, body) as response:
        async for line in response.content:
            data = event_data(line)
            if data is None:
                continue
            chunk = orjson.loads(data)
            if "error" in chunk:
                raise RunnerFailed(str(chunk["error"].get("message", "the model failed")))
            for choice in chunk["choices"]:
                choice["index"] += offset
                if choice["finish_reason"]:
                    lease.give_one()
            if "prompt_progress" not in chunk:
                await chunks.put(chunk)
    if lease.count:
        raise RunnerFailed("the model process ended before its answer was complete")


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """One of the failures; the others came from the same request."""
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, ExceptionGroup) else failure
