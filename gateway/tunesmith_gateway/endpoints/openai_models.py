"""OpenAI's dialect: completions, embeddings and models, passed to Ollama's `/v1`."""

from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request

from tunesmith_gateway.dependencies import Chatter, GatewayServices, Services
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.models import ListedModel, canonical
from tunesmith_gateway.relay import SSE, Relay
from tunesmith_shared.errors import BadRequest, NotFound, TunesmithError
from tunesmith_shared.schemas.base import Deleted, Page

router = APIRouter(prefix="/v1", tags=["openai"])


async def read_json(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object. Raises `BadRequest`, saying where it is none."""
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def model_of(body: dict[str, Any]) -> str:
    """Return the model that a body names. Raises `BadRequest` when it names none."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise BadRequest("Name the model to use.", param="model")
    return name


async def relay_to_v1(request: Request, services: Services, caller: Caller, path: str, body: dict[str, Any]) -> Relay:
    """Pass a request that names a model on to Ollama's `/v1`; the client's own bytes go, and the answer's come back."""
    model = model_of(body)
    await services.models.allow(caller.owner, model)

    async def explain(error: TunesmithError) -> TunesmithError:
        return await services.models.unknown(caller.owner, model) if isinstance(error, NotFound) else error

    return Relay(
        services.ollama,
        "POST",
        path,
        headers={**services.ollama.for_owner(caller.owner), "content-type": "application/json"},
        body=await request.body(),
        on_error=explain,
        generation=SSE,
    )


@router.post("/completions")
async def completions(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Complete a text."""
    return await relay_to_v1(request, services, caller, "/v1/completions", await read_json(request))


@router.post("/embeddings")
async def embeddings(request: Request, services: GatewayServices, caller: Chatter) -> Relay:
    """Embed a text, or several."""
    return await relay_to_v1(request, services, caller, "/v1/embeddings", await read_json(request))


@router.get("/models")
async def models(services: GatewayServices, caller: Chatter) -> Page[dict[str, Any]]:
    """List the models that the caller may use."""
    return Page[dict[str, Any]](data=[_shown(model) for model in await services.models.available(caller.owner)])


@router.get("/models/{name:path}")
async def model(name: str, services: GatewayServices, caller: Chatter) -> dict[str, Any]:
    """Show one model."""
    full = await services.models.require(caller.owner, name)
    return next(_shown(model) for model in await services.models.available(caller.owner) if model.name == full)


@router.delete("/models/{name:path}")
async def delete_model(name: str, services: GatewayServices, caller: Chatter) -> Deleted:
    """Remove a model that the caller made."""
    await services.models.delete(caller.owner, name)
    return Deleted(id=canonical(name), object="model")


def _shown(model: ListedModel) -> dict[str, Any]:
    created = int(datetime.fromisoformat(model.modified_at).timestamp())
    return {"id": model.name, "object": "model", "created": created, "owned_by": model.owner or "library"}
