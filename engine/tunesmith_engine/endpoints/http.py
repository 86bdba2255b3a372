"""What all routes need: bodies in any content type, streams, and clients that leave."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Annotated, TypeVar

import orjson
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from tunesmith_engine.inference import Inference
from tunesmith_shared.errors import BadRequest, TunesmithError

NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


class ClientGone(TunesmithError):
    """The client closed the connection; nobody reads this answer."""

    status = 499


def json_body(schema: type[Body]) -> Callable[[Request], Coroutine[None, None, Body]]:
    """A dependency that reads JSON whatever the content type says, as Ollama does (``curl -d`` sends a form's)."""

    async def read(request: Request) -> Body:
        content = await request.body()
        if not content:
            raise BadRequest("missing request body")
        try:
            return schema.model_validate_json(content)
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
            places = (".".join(map(str, mistake["loc"])) for mistake in mistakes)
            sentences = [
                f"{place}: {m['msg']}" if place else m["msg"] for place, m in zip(places, mistakes, strict=True)
            ]
            param = str(mistakes[0]["loc"][0]) if mistakes[0]["loc"] else None
            raise BadRequest("; ".join(sentences), param=param) from error

    return read


def _inference(request: Request) -> Inference:
    inference: Inference = request.app.state.inference
    return inference


Engine = Annotated[Inference, Depends(_inference)]


async def unless_gone(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """Do the work, or stop it as soon as the client leaves. Raises ClientGone, and what the work raises."""
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone("the client left")
        return task.result()
    finally:
        for pending in (task, watcher):
            pending.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def streamed(request: Request, parts: AsyncGenerator[bytes, None], media_type: str) -> StreamingResponse:
    """A streaming response that begins with the first part, so that earlier errors still have their own status."""
    first = await unless_gone(request, _first(parts))
    return StreamingResponse(_chain(first, parts), media_type=media_type)


async def _first(parts: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(parts, b"")


async def _chain(first: bytes, parts: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(parts):
        yield first
        async for part in parts:
            yield part


async def json_lines(lines: AsyncIterator[dict[str, object]]) -> AsyncGenerator[bytes, None]:
    """One JSON document a line."""
    async for line in lines:
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


async def collected(lines: AsyncIterator[Result]) -> list[Result]:
    """All lines of a stream."""
    return [line async for line in lines]
