"""The services behind the gateway, over one shared aiohttp session: JSON calls with typed errors.

Streams and raw bodies go through `relay.py` instead.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from tunesmith_gateway.usage import count
from tunesmith_shared import errors
from tunesmith_shared.logs import request_id
from tunesmith_shared.middleware import REQUEST_ID_HEADER

_BY_STATUS: dict[int, type[errors.TunesmithError]] = {
    400: errors.BadRequest,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    429: errors.TooManyRequests,
    501: errors.Unsupported,
    503: errors.Unavailable,
    504: errors.UpstreamTimeout,
    507: errors.StorageFull,
}


@dataclass(frozen=True)
class Upstream:
    """One service: its name for people, its URL, and the headers that every call to it carries."""

    name: str
    url: str
    session: aiohttp.ClientSession
    headers: Mapping[str, str]

    def for_owner(self, owner: str) -> dict[str, str]:
        """Return the headers of a call on behalf of `owner`."""
        return {**self.headers, "x-tunesmith-owner": owner, REQUEST_ID_HEADER: request_id.get()}

    async def call(
        self,
        method: str,
        path: str,
        *,
        owner: str,
        body: object = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """Send `body` as JSON and return the answer's JSON.

        Raises the error that the service answered with, `Unavailable` when it cannot be reached, `UpstreamTimeout`
        when it does not answer in time and `UpstreamFailed` when what it says is no JSON.
        """
        data = orjson.dumps(body) if body is not None else None
        headers = {**self.for_owner(owner), "content-type": "application/json"}
        try:
            async with self.session.request(
                method, self.url + path, data=data, params=params, headers=headers, allow_redirects=False
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise connection_error(self.name, error) from error
        if response.status >= 400:
            raise answered_error(self.name, response.status, content, response.headers.get("retry-after"))
        try:
            answer = orjson.loads(content) if content else None
        except orjson.JSONDecodeError as error:
            raise errors.UpstreamFailed(f"The {self.name} answered something that is no JSON.") from error
        count(answer)
        return answer

    async def check(self, path: str) -> None:
        """Raise when the service does not answer `path` with success."""
        await self.call("GET", path, owner="health")


def connection_error(name: str, error: Exception) -> errors.TunesmithError:
    """Return what a caller is told when the service `name` could not be reached or broke off."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return errors.Unavailable(f"The {name} is not running or cannot be reached. Try again soon.", retry_after=2)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return errors.UpstreamTimeout(f"The {name} did not answer in time.")
    return errors.UpstreamFailed(f"The {name} broke off before its answer was whole. Try again.")


def answered_error(name: str, status: int, content: bytes, retry_after: str | None) -> errors.TunesmithError:
    """Return the error that the body of a failed answer describes, in OpenAI's shape or in Ollama's."""
    try:
        shown = orjson.loads(content)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        shown = f"The {name} answered with status {status}."
    wait = int(retry_after) if retry_after and retry_after.isdigit() else None
    kind = _BY_STATUS.get(status, errors.UpstreamFailed)
    if isinstance(shown, dict):
        message = str(shown.get("message") or f"The {name} answered with status {status}.")
        return kind(message, param=shown.get("param"), code=shown.get("code"), retry_after=wait)
    return kind(str(shown), retry_after=wait)
