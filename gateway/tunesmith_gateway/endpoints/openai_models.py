"""OpenAI's dialect: completions, embeddings and models, passed to the backends."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunesmith_gateway.dependencies import Chatter, GatewayServices, Services
from tunesmith_gateway.endpoints.v1 import generate, model_of, read_json, relay
from tunesmith_gateway.generation_routes import Generates
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.model_names import canonical
from tunesmith_gateway.models import ListedModel
from tunesmith_shared.schemas.base import Deleted, Page

router = APIRouter(prefix="/v1", tags=["openai"])


@router.post("/completions")
@Generates
async def completions(request: Request, services: Services, caller: Caller) -> Response:
    """Complete a text."""
    return await generate(request, services, caller, "/v1/completions", await read_json(request))


@router.post("/embeddings")
@Generates
async def embeddings(request: Request, services: Services, caller: Caller) -> Response:
    """Embed a text, or several."""
    body = await read_json(request)
    await services.models.allow(caller.owner, model_of(body))
    return relay(services, caller, "/v1/embeddings", body, await request.body())


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
