"""Who calls a service behind the gateway: the shared service token, and the owner that the gateway vouches for."""

import hmac
from typing import Annotated

from fastapi import Depends, Request

from tunesmith_shared.errors import BadRequest, Unauthorized
from tunesmith_shared.settings import ServiceSettings

OWNER_HEADER = "x-tunesmith-owner"


def service_headers(settings: ServiceSettings, owner: str) -> dict[str, str]:
    """Return the headers with which one service calls another on behalf of `owner`."""
    return {"authorization": f"Bearer {settings.service_token.get_secret_value()}", OWNER_HEADER: owner}


def _owner(request: Request) -> str:
    settings: ServiceSettings = request.app.state.settings
    shown = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
    if not hmac.compare_digest(shown, settings.service_token.get_secret_value().encode()):
        raise Unauthorized("This service answers the gateway only: the service token is missing or wrong.")
    owner = request.headers.get(OWNER_HEADER, "")
    if not owner:
        raise BadRequest(f"The header {OWNER_HEADER} is missing.", param=OWNER_HEADER)
    return owner


Owner = Annotated[str, Depends(_owner)]
"""The owner on whose behalf the gateway calls. Raises `Unauthorized` without the service token."""
