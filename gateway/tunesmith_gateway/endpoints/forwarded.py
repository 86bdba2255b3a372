"""Fine-tuning jobs and vector stores: OpenAI's routes, answered by the services that own them.

The services speak OpenAI's shapes themselves, so these are relayed as they are, with the caller's owner beside them.
"""

from fastapi import APIRouter, Request

from tunesmith_gateway.dependencies import GatewayServices, Reader, Trainer
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.relay import Relay
from tunesmith_gateway.upstream import Outgoing, Upstream

router = APIRouter(tags=["openai"])

_METHODS = ["GET", "POST", "DELETE"]


async def _forward(request: Request, upstream: Upstream, caller: Caller) -> Relay:
    body = await request.body()
    passed = {name: request.headers[name] for name in ("content-type", "idempotency-key") if name in request.headers}
    return Relay(
        upstream,
        Outgoing(
            request.method,
            request.url.path,
            caller.owner,
            content=body or None,
            params=dict(request.query_params),
            headers=passed,
        ),
    )


@router.api_route("/v1/fine_tuning/{path:path}", methods=_METHODS)
async def fine_tuning(request: Request, services: GatewayServices, caller: Trainer) -> Relay:
    """Create, list, show, cancel and follow fine-tuning jobs."""
    return await _forward(request, services.worker, caller)


@router.api_route("/v1/vector_stores", methods=_METHODS)
@router.api_route("/v1/vector_stores/{path:path}", methods=_METHODS)
async def vector_stores(request: Request, services: GatewayServices, caller: Reader) -> Relay:
    """Create, list, show, fill, search and delete vector stores."""
    return await _forward(request, services.rag, caller)
