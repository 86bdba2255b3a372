"""Answers to OpenAI's requests from llama.cpp's server, whose answers already have OpenAI's shape.

Streams of one choice pass through as bytes. Model processes are shared by all names of a model, so they know
themselves by a placeholder; putting the served name there is the only change that is made. Whole
answers are put together from a stream, because llama.cpp notices that a client left only while it writes.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import orjson

from tunesmith_engine.choices import choice_chunks
from tunesmith_engine.completions import CHAT_PATH, TEXT_PATH, generation
from tunesmith_engine.forced_calls import in_chunks, with_calls
from tunesmith_engine.generate import fit
from tunesmith_engine.inference import Inference, Job
from tunesmith_engine.insert import inserting
from tunesmith_engine.openai_requests import OpenAIRequest
from tunesmith_engine.openai_whole import Json, assemble, summed_usage
from tunesmith_engine.options import Options
from tunesmith_engine.process import ContextExceeded, ModelProcess
from tunesmith_engine.specification import ALIAS
from tunesmith_engine.truncation import count_tokens
from tunesmith_shared.errors import TunesmithError, openai_body

_EVENT_END = b"\n\n"
_END = b"data: [DONE]" + _EVENT_END
_PROGRESS = b'"prompt_progress":{'


async def event_bytes(
    inference: Inference, job: Job, body: Options, request: OpenAIRequest
) -> AsyncGenerator[bytes, None]:
    """The answer as server-sent events, some at a time. An error after the first byte becomes an error event."""
    begun = False
    events = _call_events if request.must_call else _events if request.n == 1 else _several_events
    try:
        async with contextlib.aclosing(events(inference, job, body, request)) as parts:
            async for part in parts:
                yield part
                begun = True
    except TunesmithError as error:
        if not begun:
            raise
        yield _event(openai_body(error))


async def whole_answer(inference: Inference, job: Job, body: Options, request: OpenAIRequest) -> Json:
    """The answer as one object. Raises what the stream raises."""
    answer = await _assembled(inference, job, body, request)
    return with_calls(answer) if request.must_call else answer


async def _assembled(inference: Inference, job: Job, body: Options, request: OpenAIRequest) -> Json:
    if request.n > 1:
        async with contextlib.aclosing(_several(inference, job, body, request)) as chunks:
            return assemble([chunk async for chunk in chunks])
    body = {**body, "stream_options": {"include_usage": True}}
    async with contextlib.aclosing(_events(inference, job, body, request)) as parts:
        stream = b"".join([part async for part in parts])
    lines = (line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {"))
    return assemble([orjson.loads(line) for line in lines])


async def _events(inference: Inference, job: Job, body: Options, request: OpenAIRequest) -> AsyncGenerator[bytes, None]:
    path = _path(body)
    async with inference.run(job) as loaded, contextlib.AsyncExitStack() as stack:
        stack.enter_context(contextlib.closing(await loaded.slots.take()))
        body = await _filled(loaded.process, body, job, request)
        response = await _open(stack, loaded.process, path, body, job, truncate=request.truncate)
        async for part in served_events(response.content.iter_any(), job.requested):
            yield part


async def _call_events(
    inference: Inference, job: Job, body: Options, request: OpenAIRequest
) -> AsyncGenerator[bytes, None]:
    """A required call as events: nobody can do anything with half of one."""
    answer = await whole_answer(inference, job, body, request)
    for chunk in in_chunks(answer, include_usage=request.wants_usage):
        yield _event(chunk)
    yield _END


async def _several_events(
    inference: Inference, job: Job, body: Options, request: OpenAIRequest
) -> AsyncGenerator[bytes, None]:
    """The chunks of several choices as events, and one usage for all at the end when it is asked for."""
    usages: list[Json] = []
    last: Json = {}
    async with contextlib.aclosing(_several(inference, job, body, request)) as chunks:
        async for chunk in chunks:
            if chunk.get("usage"):
                usages.append(chunk["usage"])
                last = chunk
            else:
                yield _event(chunk)
    if request.wants_usage:
        yield _event({**last, "usage": summed_usage(usages)})
    yield _END


async def _several(inference: Inference, job: Job, body: Options, request: OpenAIRequest) -> AsyncGenerator[Json, None]:
    """The chunks of several choices, as of one answer."""
    path = _path(body)
    shared: Json = {"model": job.requested}
    async with inference.run(job) as loaded:
        body = await _filled(loaded.process, body, job, request)
        body = await _bounded(loaded.process, path, body, job, truncate=request.truncate)
        async with contextlib.aclosing(choice_chunks(loaded.process, loaded.slots, path, body, request.n)) as chunks:
            async for chunk in chunks:
                shared.setdefault("id", chunk["id"])
                yield {**chunk, **shared}


async def _filled(process: ModelProcess, body: Options, job: Job, request: OpenAIRequest) -> Options:
    if job.insertion is None:
        return body
    return await inserting(process, job.insertion, body, job.num_ctx, truncate=request.truncate)


async def _bounded(process: ModelProcess, path: str, body: Options, job: Job, *, truncate: bool) -> Options:
    """A request that ends where the context does: llama.cpp does not shift the context of choices that share one."""
    tokens = await count_tokens(process, body)
    if tokens >= job.num_ctx:
        if not truncate:
            raise ContextExceeded(tokens, job.num_ctx)
        body = await fit(process, path, body, job)
        tokens = await count_tokens(process, body)
    limit = body["n_predict"]
    assert isinstance(limit, int)  # noqa: S101 - see llama_sampling
    return {**body, "n_predict": min(limit, job.num_ctx - tokens - 1)}


def _path(body: Options) -> str:
    return CHAT_PATH if "messages" in body else TEXT_PATH


def _event(content: object) -> bytes:
    return b"data: " + orjson.dumps(content) + _EVENT_END


async def _open(
    stack: contextlib.AsyncExitStack, process: ModelProcess, path: str, body: Options, job: Job, *, truncate: bool
) -> aiohttp.ClientResponse:
    """The model process's answer, with the prompt shortened when it must and may be."""
    try:
        return await stack.enter_async_context(generation(process, path, body))
    except ContextExceeded:
        if not truncate:
            raise
    return await stack.enter_async_context(generation(process, path, await fit(process, path, body, job)))


async def served_events(chunks: AsyncIterator[bytes], name: str) -> AsyncGenerator[bytes, None]:
    """Whole events, with the served name for the placeholder and without progress.

    Generated text can hold neither mark: its quotes are escaped.
    """
    placeholder = b'"model":' + orjson.dumps(ALIAS)
    served = b'"model":' + orjson.dumps(name)
    rest = b""
    async for chunk in chunks:
        data = rest + chunk
        end = data.rfind(_EVENT_END) + len(_EVENT_END)
        if end < len(_EVENT_END):
            rest = data
            continue
        part, rest = data[:end], data[end:]
        if _PROGRESS in part:
            events = (event for event in part.split(_EVENT_END) if event and _PROGRESS not in event)
            part = b"".join(event + _EVENT_END for event in events)
        if part:
            yield part.replace(placeholder, served)
    if rest:
        yield rest.replace(placeholder, served)
