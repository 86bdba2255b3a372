"""Ollama's dialect: its own routes under the gateway's keys and ownership, streams byte for byte."""

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith_gateway.dependencies import Chatter, GatewayServices, Services
from tunesmith_gateway.endpoints.ollama_sessions import answer_in_session
from tunesmith_gateway.endpoints.v1 import read_json
from tunesmith_gateway.generation_routes import Generates
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.relay import NDJSON, Generation, Relay
from tunesmith_gateway.upstream import Outgoing, Target, native_error
from tunesmith_shared.errors import BadRequest, NotFound, TunesmithError

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")

router = APIRouter(prefix="/api", tags=["ollama"])


async def _pass(
    request: Request, target: Target, caller: Caller, body: dict[str, Any], generation: Generation | None = None
) -> Relay:
    return Relay(
        target,
        Outgoing(request.method, request.url.path, caller.owner, content=await request.body() or None, body=body),
        on_error=_as_answered,
        generation=generation,
    )


async def _ask(request: Request, services: Services, caller: Caller, generation: Generation | None = None) -> Relay:
    """Pass a request to the backend that has the model it names."""
    body = await read_json(request)
    model = _named(body)
    await services.models.allow(caller.owner, model)
    return await _pass(request, services.backends.route(model), caller, body, generation)


async def _as_answered(error: TunesmithError) -> TunesmithError:
    return native_error(error)


@router.post("/generate")
@router.post("/chat")
@Generates
async def generation(request: Request, services: Services, caller: Caller) -> Response:
    """Generate with a model; with a `session_id` as a turn of that session."""
    body = await read_json(request)
    if body.get("session_id") is not None:
        return await answer_in_session(request, services, caller.owner, _named(body), body)
    return await _ask(request, services, caller, NDJSON)


@router.post("/embed")
@router.post("/embeddings")
@Generates
async def embedding(request: Request, services: Services, caller: Caller) -> Response:
    """Embed with a model."""
    return await _ask(request, services, caller)


@router.post("/show")
async def show(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Show a model."""
    return await _ask(request, services, caller)


@router.get("/version")
async def version(services: GatewayServices, caller: Chatter) -> Relay:
    """Show the version of the Ollama API behind the gateway."""
    return Relay(services.backends.store(), Outgoing("GET", "/api/version", caller.owner), on_error=_as_answered)


@router.get("/tags")
async def tags(services: GatewayServices, caller: Chatter) -> Response:
    """List the models that the caller may use."""
    there = await services.models.offered(caller.owner)
    return JSONResponse({"models": [offered.offer.tag for offered in there.values()]})


@router.get("/ps")
async def loaded(services: GatewayServices, caller: Chatter) -> Response:
    """List those of the models that the caller may use that are in memory."""
    there = await services.models.offered(caller.owner)
    running = await services.backends.loaded()
    return JSONResponse({"models": [offered.offer.tag for key, offered in running.items() if key in there]})


@router.post("/create")
async def create(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Make a model that then belongs to the caller."""
    body = await read_json(request)
    name = await services.models.reserve(caller.owner, _named(body))
    base = str(body.get("from") or "")
    if base:
        await services.models.require_stored(caller.owner, base, "from")
    await services.models.record(caller.owner, name, base or name)
    return await _pass(request, services.backends.store(), caller, body)


@router.post("/copy")
async def copy(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Copy a model; the copy belongs to the caller."""
    body = await read_json(request)
    source = await services.models.require_stored(caller.owner, str(body.get("source") or ""), "source")
    destination = await services.models.reserve(caller.owner, str(body.get("destination") or ""))
    await services.models.record(caller.owner, destination, source)
    return await _pass(request, services.backends.store(), caller, body)


@router.delete("/delete")
async def delete(request: Request, services: GatewayServices, caller: Chatter) -> Response:
    """Remove a model that the caller made."""
    await services.models.delete(caller.owner, _named(await read_json(request)))
    return Response(status_code=200)


@router.post("/pull")
async def pull(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Ask the Ollama behind the gateway to fetch a model; a pulled model belongs to everyone."""
    body = await read_json(request)
    await services.models.check_unowned(_named(body))
    return await _pass(request, services.backends.store(), caller, body)


@router.head("/blobs/{digest}")
async def has_blob(digest: str, services: GatewayServices, caller: Chatter) -> Relay:
    """Say whether a blob is there."""
    _check_digest(digest)
    return Relay(services.backends.store(), Outgoing("HEAD", f"/api/blobs/{digest}", caller.owner))


@router.post("/blobs/{digest}")
async def put_blob(digest: str, request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Store a blob, streamed through."""
    _check_digest(digest)
    upload = Outgoing(
        "POST",
        f"/api/blobs/{digest}",
        caller.owner,
        content=request.stream(),
        headers={"content-type": "application/octet-stream"},
    )
    return Relay(services.backends.store(), upload, on_error=_as_answered)


def _check_digest(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise BadRequest("invalid digest format")


def _named(body: dict[str, Any]) -> str:
    name = body.get("model") or body.get("name")
    if not isinstance(name, str):
        raise NotFound("model '' not found")
    return name
