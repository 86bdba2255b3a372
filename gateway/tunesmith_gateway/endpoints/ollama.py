"""Ollama's dialect: its own routes under the gateway's keys and ownership, streams byte for byte."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tunesmith_gateway.dependencies import Chatter, GatewayServices, Generator, Services
from tunesmith_gateway.endpoints.v1 import read_json
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.models import canonical
from tunesmith_gateway.relay import NDJSON, Generation, Relay
from tunesmith_shared.errors import NotFound, TunesmithError

router = APIRouter(prefix="/api", tags=["ollama"])


async def _pass(request: Request, services: Services, caller: Caller, generation: Generation | None = None) -> Relay:
    return Relay(
        services.ollama,
        request.method,
        request.url.path,
        headers={**services.ollama.for_owner(caller.owner), "content-type": "application/json"},
        body=await request.body() or None,
        on_error=_as_answered,
        generation=generation,
    )


async def _as_answered(error: TunesmithError) -> TunesmithError:
    return error


@router.post("/generate")
@router.post("/chat")
async def generation(request: Request, services: GatewayServices, caller: Generator) -> Relay:
    """Generate with a model."""
    await services.models.allow(caller.owner, _named(await read_json(request)))
    return await _pass(request, services, caller, NDJSON)


@router.post("/embed")
@router.post("/embeddings")
async def embedding(request: Request, services: GatewayServices, caller: Generator) -> Relay:
    """Embed with a model."""
    await services.models.allow(caller.owner, _named(await read_json(request)))
    return await _pass(request, services, caller)


@router.post("/show")
async def show(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Show a model."""
    await services.models.allow(caller.owner, _named(await read_json(request)))
    return await _pass(request, services, caller)


@router.get("/version")
async def version(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Show the version of the Ollama API behind the gateway."""
    return await _pass(request, services, caller)


@router.get("/tags")
@router.get("/ps")
async def listing(request: Request, services: GatewayServices, caller: Chatter) -> Response:
    """List the models that the caller may use, all or the loaded ones."""
    answer = await services.ollama.call("GET", request.url.path, owner=caller.owner)
    allowed = {model.name for model in await services.models.available(caller.owner)}
    return JSONResponse({"models": [model for model in answer["models"] if canonical(model["name"]) in allowed]})


@router.post("/create")
async def create(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Make a model that then belongs to the caller."""
    body = await read_json(request)
    name = await services.models.reserve(caller.owner, _named(body))
    base = str(body.get("from") or "")
    if base:
        await services.models.require(caller.owner, base, "from")
    await services.models.record(caller.owner, name, base or name)
    return await _pass(request, services, caller)


@router.post("/copy")
async def copy(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Copy a model; the copy belongs to the caller."""
    body = await read_json(request)
    source = await services.models.require(caller.owner, str(body.get("source") or ""), "source")
    destination = await services.models.reserve(caller.owner, str(body.get("destination") or ""))
    await services.models.record(caller.owner, destination, source)
    return await _pass(request, services, caller)


@router.delete("/delete")
async def delete(request: Request, services: GatewayServices, caller: Chatter) -> Response:
    """Remove a model that the caller made."""
    await services.models.delete(caller.owner, _named(await read_json(request)))
    return Response(status_code=200)


@router.post("/pull")
async def pull(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Ask the Ollama behind the gateway to fetch a model; a pulled model belongs to everyone."""
    return await _pass(request, services, caller)


@router.head("/blobs/{digest}")
async def has_blob(digest: str, services: GatewayServices, caller: Chatter) -> Relay:
    """Say whether a blob is there."""
    return Relay(services.ollama, "HEAD", f"/api/blobs/{digest}", headers=services.ollama.for_owner(caller.owner))


@router.post("/blobs/{digest}")
async def put_blob(digest: str, request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Store a blob, streamed through."""
    body: AsyncIterator[bytes] = request.stream()
    headers = services.ollama.for_owner(caller.owner)
    return Relay(services.ollama, "POST", f"/api/blobs/{digest}", headers=headers, body=body, on_error=_as_answered)


def _named(body: dict[str, object]) -> str:
    name = body.get("model") or body.get("name")
    if not isinstance(name, str):
        raise NotFound("model '' not found")
    return name
