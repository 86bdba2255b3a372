"""``/api/version``, ``tags``, ``show``, ``ps``, ``create``, ``copy``, ``delete``, ``blobs``, ``pull``, ``push``."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from tunesmith_engine import OLLAMA_VERSION
from tunesmith_engine.create import CreateRequest, plan_create, run_create
from tunesmith_engine.endpoints.http import NDJSON, Engine, collected, json_body, json_lines, streamed, unless_gone
from tunesmith_engine.endpoints.json_response import FastJson
from tunesmith_engine.inference import require_name
from tunesmith_engine.models import Json, timestamp
from tunesmith_engine.pull import Puller
from tunesmith_engine.push import Pusher
from tunesmith_engine.scheduler import LoadedModel
from tunesmith_engine.show import long_lists, show
from tunesmith_shared.errors import NotFound, TunesmithError

router = APIRouter(prefix="/api", tags=["ollama"])

_FOREVER_SECONDS = 100 * 365 * 86400


class NamedRequest(BaseModel):
    """A body that names a model; ``name`` is the old spelling."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    name: str = ""

    @property
    def wanted(self) -> str:
        """The name, in either spelling."""
        return self.model or self.name


class ShowRequest(NamedRequest):
    """``POST /api/show``; ``verbose`` asks for the metadata's long lists too, the vocabulary among them.

    ``system`` is shown in place of the model's own.
    """

    verbose: bool = False
    system: str = ""


class TransferRequest(NamedRequest):
    """``POST /api/pull`` and ``push``; ``insecure`` allows a name that begins with ``http://``."""

    insecure: bool = False
    stream: bool = True


class CopyRequest(BaseModel):
    """``POST /api/copy``."""

    source: str
    destination: str


Named = Annotated[NamedRequest, Depends(json_body(NamedRequest))]


@router.get("/version")
@router.head("/version")
async def version() -> dict[str, Any]:
    """The version of Ollama's API that is spoken here, and what `/v1` knows beyond it."""
    return {"version": OLLAMA_VERSION, "extensions": ["n", "options", "truncate"]}


@router.get("/tags")
@router.head("/tags")
async def tags(engine: Engine) -> Response:
    """The models there are."""
    return FastJson({"models": await asyncio.to_thread(engine.catalog.tags)})


@router.post("/show")
async def show_model(engine: Engine, body: Annotated[ShowRequest, Depends(json_body(ShowRequest))]) -> Response:
    """Everything about one model."""
    require_name(body.wanted)
    model = await engine.catalog.get(body.wanted)
    if body.system:
        model = replace(model, system=body.system)
    lists = await asyncio.to_thread(long_lists, model) if body.verbose else {}
    return FastJson(show(model, lists))


@router.get("/ps")
async def running(engine: Engine) -> Response:
    """The models that are loaded."""
    return FastJson({"models": [_running(loaded) for loaded in engine.scheduler.loaded()]})


def _running(loaded: LoadedModel) -> dict[str, object]:
    remaining = loaded.remaining_seconds
    return {
        "name": loaded.name,
        "model": loaded.name,
        "size": loaded.bytes,
        "digest": loaded.digest,
        "details": loaded.details,
        "expires_at": timestamp(time.time() + (_FOREVER_SECONDS if remaining is None else remaining)),
        "size_vram": 0,
        "context_length": loaded.process.specification.num_ctx,
    }


@router.post("/create")
async def create(
    request: Request, engine: Engine, body: Annotated[CreateRequest, Depends(json_body(CreateRequest))]
) -> Response:
    """Make a model from another one or from uploaded files."""
    store = engine.catalog.store
    plan = await asyncio.to_thread(plan_create, store, body, request.app.state.quantiser)
    if body.stream:
        return await streamed(request, json_lines(run_create(store, plan)), NDJSON)
    return FastJson((await collected(run_create(store, plan)))[-1])


@router.post("/copy")
async def copy(engine: Engine, body: Annotated[CopyRequest, Depends(json_body(CopyRequest))]) -> Response:
    """Give a model a second name."""
    await asyncio.to_thread(engine.catalog.copy, body.source, body.destination)
    return Response()


@router.delete("/delete")
async def delete(engine: Engine, body: Named) -> Response:
    """Remove a model."""
    await asyncio.to_thread(engine.catalog.delete, body.wanted)
    return Response()


@router.head("/blobs/{digest}")
async def has_blob(engine: Engine, digest: str) -> Response:
    """200 when the blob is there, 404 when not."""
    if not engine.catalog.store.has_blob(digest):
        raise NotFound(f"blob {digest} not found")
    return Response()


@router.post("/blobs/{digest}")
async def upload_blob(request: Request, engine: Engine, digest: str) -> Response:
    """Store an upload: 201 when it is new, 200 without reading it when it is there."""
    store = engine.catalog.store
    if store.has_blob(digest):
        return Response()
    await store.write_blob_stream(digest, request.stream())
    return Response(status_code=201)


@router.post("/pull")
async def pull(request: Request, body: Annotated[TransferRequest, Depends(json_body(TransferRequest))]) -> Response:
    """Fetch a model from a registry."""
    puller: Puller = request.app.state.puller
    return await _transferred(request, puller.pull(puller.source(body.wanted, insecure=body.insecure)), body)


@router.post("/push")
async def push(request: Request, body: Annotated[TransferRequest, Depends(json_body(TransferRequest))]) -> Response:
    """Publish a model in a registry."""
    pusher: Pusher = request.app.state.pusher
    source = await asyncio.to_thread(pusher.source, body.wanted, insecure=body.insecure)
    return await _transferred(request, pusher.push(source), body)


async def _transferred(request: Request, lines: AsyncGenerator[Json], body: TransferRequest) -> Response:
    if body.stream:
        return await streamed(request, json_lines(_until_failed(lines)), NDJSON)
    return FastJson((await unless_gone(request, collected(lines)))[-1])


async def _until_failed(lines: AsyncGenerator[Json]) -> AsyncGenerator[Json]:
    """The lines, and an error as the last of them, where Ollama has it too."""
    async with aclosing(lines):
        try:
            async for line in lines:
                yield line
        except TunesmithError as error:
            yield {"error": error.message}
