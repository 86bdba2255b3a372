"""The services behind the gateway, over one shared aiohttp session: requests, JSON calls with typed errors.

Redirects are not followed anywhere: a URL comes from configuration alone, and a key goes nowhere else.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp
import orjson
from opentelemetry.trace import StatusCode

from tunesmith_gateway.answers import Answer, HttpAnswer, not_reached
from tunesmith_gateway.usage import count
from tunesmith_shared import errors
from tunesmith_shared.logs import request_id
from tunesmith_shared.middleware import REQUEST_ID_HEADER
from tunesmith_shared.tracing import call

Json = dict[str, Any]

OWNER_HEADER = "x-tunesmith-owner"
_JSON = "application/json"
_TOO_LONG = re.compile("context holds|context length|exceeds the (available )?context")


class ServerFailed(errors.UpstreamFailed):
    """The service says itself that it failed (500)."""


_BY_STATUS: dict[int, type[errors.TunesmithError]] = {
    400: errors.BadRequest,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    429: errors.TooManyRequests,
    500: ServerFailed,
    501: errors.Unsupported,
    503: errors.Unavailable,
    504: errors.UpstreamTimeout,
    507: errors.StorageFull,
}


class Outgoing(NamedTuple):
    """A request to a service on behalf of `owner`.

    `content` is sent as it is: bytes, or an iterator for uploads that must not be held in memory. `body` is the same
    as JSON where it is some; alone it is written when it is sent.
    """

    method: str
    path: str
    owner: str
    content: bytes | AsyncIterator[bytes] | None = None
    body: Json | None = None
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a service may take, in seconds: to be connected to, to begin its answer, to go on with it."""

    connect: float
    first_byte: float
    between_bytes: float


class Target(ABC):
    """Where a request can go: one service, or the backends of a model."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people are told that it is."""

    @abstractmethod
    async def send(self, request: Outgoing) -> Answer:
        """Return the answer, whatever its status, as soon as it begins.

        Raises `Unavailable` when the service cannot be reached, `UpstreamTimeout` when it takes too long and
        `UpstreamFailed` when it breaks off.
        """

    async def call(
        self, method: str, path: str, *, owner: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> Any:
        """Send `body` as JSON and return the answer's JSON.

        Raises the error that the service answered with, as `send` does, and `UpstreamFailed` when what it says is no
        JSON.
        """
        return await self.call_for(Outgoing(method, path, owner, body=body, params=params))

    async def call_for(self, request: Outgoing) -> Any:
        """Send `request` and return the answer's JSON. Raises as `call` does."""
        with await self.send(request) as answer:
            content = await answer.read()
        if answer.status >= 400:
            raise answered_error(self.name, answer.status, content, answer.headers.get("retry-after"))
        try:
            result = orjson.loads(content) if content else None
        except orjson.JSONDecodeError as error:
            raise errors.UpstreamFailed(f"The {self.name} answered something that is no JSON.") from error
        count(result)
        return result

    async def check(self, path: str) -> None:
        """Raise when the service does not answer `path` with success."""
        await self.call("GET", path, owner="health")


class Upstream(Target):
    """One server. `headers` go with every request to it; the owner does, too, where `tells_owner`."""

    def __init__(
        self,
        name: str,
        url: str,
        session: aiohttp.ClientSession,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        *,
        tells_owner: bool = True,
    ) -> None:
        self._name = name
        self._url = url
        self._session = session
        self._headers = {"content-type": _JSON, **headers}
        self._tells_owner = tells_owner
        self._timeout = aiohttp.ClientTimeout(total=None, connect=timeouts.connect, sock_read=timeouts.first_byte)
        self._between_bytes = timeouts.between_bytes

    @property
    def name(self) -> str:
        """What people are told that it is."""
        return self._name

    async def send(self, request: Outgoing) -> Answer:
        """Return the answer when its head is there. Raises as `Target.send` says."""
        headers = {**self._headers, REQUEST_ID_HEADER: request_id.get(), **request.headers}
        if self._tells_owner:
            headers[OWNER_HEADER] = request.owner
        called = call(f"call {self._name}", {"http.request.method": request.method}, headers)
        data = request.content
        if data is None and request.body is not None:
            data = orjson.dumps(request.body)
        try:
            response = await self._session.request(
                request.method,
                self._url + request.path,
                data=data,
                params=request.params,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except BaseException as error:
            if called is not None:
                called.set_status(StatusCode.ERROR, type(error).__name__)
                called.end()
            if isinstance(error, (aiohttp.ClientError, TimeoutError)):
                raise not_reached(self._name, error) from error
            raise
        return HttpAnswer(self._name, response, self._between_bytes, called)


def answered_error(name: str, status: int, content: bytes, retry_after: str | None) -> errors.TunesmithError:
    """Return the error that the body of a failed answer describes, in OpenAI's shape or in Ollama's."""
    try:
        body = orjson.loads(content)
        shown = body.get("error") or body  # vLLM has had the error as the whole body
    except (orjson.JSONDecodeError, AttributeError):
        shown = {}
    wait = int(retry_after) if retry_after and retry_after.isdigit() else None
    kind = _BY_STATUS.get(status, errors.UpstreamFailed)
    if isinstance(shown, dict):
        message = str(shown.get("message") or f"The {name} answered with status {status}.")
        return kind(message, param=shown.get("param"), code=shown.get("code"), retry_after=wait)
    too_long = kind is errors.BadRequest and _TOO_LONG.search(str(shown)) is not None
    return kind(str(shown), code="context_length_exceeded" if too_long else None, retry_after=wait)


def native_error(error: errors.TunesmithError) -> errors.TunesmithError:
    """Return what Ollama's clients are told: the server's own 500 stays one, which is how it refuses a wrong option."""
    return errors.TunesmithError(error.message) if isinstance(error, ServerFailed) else error
