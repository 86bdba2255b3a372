"""The plain dialect: making, removing and listing models."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from tunesmith_gateway.dependencies import Chatter, GatewayServices
from tunesmith_gateway.endpoints.spelling import Names, named

router = APIRouter(tags=["plain"])


@router.post("/createModel")
async def create_model(names: Names, services: GatewayServices, caller: Chatter) -> dict[str, Any]:
    """Make a model from another with a system template."""
    base = names.get("base_model") or services.settings.default_model
    template = named(names, "systemTemplate")
    return asdict(await services.models.create(caller.owner, named(names, "modelName"), str(base), template))


@router.delete("/deleteModel")
async def delete_model(names: Names, services: GatewayServices, caller: Chatter) -> dict[str, Any]:
    """Remove a model that the caller made."""
    removed = await services.models.delete(caller.owner, named(names, "modelName"))
    return {"status": "Model deleted", "modelName": removed}


@router.get("/list_Models")
async def list_models(services: GatewayServices, caller: Chatter) -> dict[str, Any]:
    """List the models that the caller may use."""
    return {"models": [asdict(model) for model in await services.models.available(caller.owner)]}
