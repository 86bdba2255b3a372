"""Names in plain requests: in the query or as JSON, in camelCase or snake_case."""

import re
from typing import Annotated, Any

from fastapi import Depends, Request

from tunesmith_gateway.endpoints.v1 import read_json
from tunesmith_shared.errors import BadRequest


def snake(name: str) -> str:
    """Return `modelName` as `model_name`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


async def _names(request: Request) -> dict[str, Any]:
    body = await read_json(request) if await request.body() else {}
    return {snake(name): value for name, value in {**body, **dict(request.query_params)}.items()}


Names = Annotated[dict[str, Any], Depends(_names)]
"""The request's query and JSON fields, all in snake_case."""


def named(names: dict[str, Any], field: str) -> str:
    """Return a field that must be there. Raises `BadRequest` when it is not."""
    value = names.get(snake(field))
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"{field} is missing.", param=field)
    return value
