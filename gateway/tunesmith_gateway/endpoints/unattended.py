"""Requests of batches: the bodies that the endpoints under `/v1` take, answered whole and without a connection."""

from typing import Any

from tunesmith_gateway.dependencies import Services
from tunesmith_gateway.endpoints import openai_chat, v1

Json = dict[str, Any]


async def answer(services: Services, owner: str, endpoint: str, body: Json) -> Json:
    """Return what a request to `endpoint` that does not stream would be answered. Raises what it would be refused."""
    if endpoint == "/v1/embeddings":
        await services.models.allow(owner, v1.model_of(body))
        embedded: Json = await services.backends.route(v1.model_of(body)).call("POST", endpoint, owner=owner, body=body)
        return embedded
    if endpoint == "/v1/chat/completions" and openai_chat.is_extended(body):
        return await openai_chat.whole_turn(services, owner, body)
    return await v1.generate_whole(services, owner, endpoint, body)
