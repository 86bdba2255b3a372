"""A client of model registries that speak Docker's distribution protocol: Ollama's own, and Hugging Face's.

    GET /v2/<namespace>/<model>/manifests/<tag>       what the model consists of
    GET /v2/<namespace>/<model>/blobs/<digest>        one part of it, from any byte on; may redirect

and to publish one

    HEAD /v2/<namespace>/<model>/blobs/<digest>       whether that part is there
    POST /v2/<namespace>/<model>/blobs/uploads/       where it is to be sent, by PUT, with its digest
    PUT /v2/<namespace>/<model>/manifests/<tag>       what the model consists of

Only registries that the operator allows are asked, because the engine sees networks that its callers do not.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import httpx

from tunesmith_engine import OLLAMA_VERSION
from tunesmith_engine.models import Json
from tunesmith_shared.errors import BadRequest, TunesmithError
from tunesmith_shared.names import ModelName
from tunesmith_shared.store import Layer, Manifest
from tunesmith_shared.store.manifest import MANIFEST_TYPE

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_MANIFEST_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_REDIRECTS = 5
_SHORT_DIGEST = slice(7, 19)

REPORT_SECONDS = 0.1
"""Between two status lines of a blob."""


class PullFailed(TunesmithError):
    """A model could not be fetched. Ollama answers 500 for all of these."""


class PushFailed(TunesmithError):
    """A model could not be published. Ollama answers 500 for all of these."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model in a registry. `scheme` is https, or http where the request allows it by `insecure`."""

    scheme: str
    name: ModelName

    @classmethod
    def of(cls, wanted: str, *, insecure: bool) -> Self:
        """Read a name that may begin with a scheme. Raises BadRequest for no name, or http that is not allowed."""
        scheme = "http" if wanted.startswith("http://") else "https"
        if scheme == "http" and not insecure:
            raise BadRequest("insecure protocol http; name the model without it, or allow it with 'insecure'")
        return cls(scheme, ModelName.parse(wanted))

    @property
    def url(self) -> str:
        """Where its manifests and blobs are."""
        return f"{self.scheme}://{self.name.host}/v2/{self.name.namespace}/{self.name.model}"


class Registries:
    """The registries that are `allowed`, by host, asked without signing in."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = allowed
        headers = {"user-agent": f"ollama/{OLLAMA_VERSION}", "accept-encoding": "identity"}
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, headers=headers)

    def check(self, source: Source, what_for: str) -> None:
        """Raise BadRequest when the model, to be `fetched` or `published`, is in a registry that is not allowed."""
        if source.name.host.lower() not in self._allowed:
            raise BadRequest(
                f"models of {source.name.host} are not {what_for} here, only those of {', '.join(self._allowed)}; the "
                "operator can add it to TUNESMITH_ENGINE_REGISTRIES",
                param="model",
            )

    async def manifest(self, source: Source) -> Manifest:
        """What a model consists of. Raises PullFailed."""
        try:
            async with self._get(f"{source.url}/manifests/{source.name.tag}", {"accept": MANIFEST_TYPE}) as response:
                _check(response, "pull model manifest", source)
                content = b""
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > _MANIFEST_BYTES:
                        raise PullFailed("pull model manifest: it is too long to be one")
        except httpx.HTTPError as error:
            raise PullFailed(
                f"pull model manifest: {source.name.host} cannot be reached ({reason(error)}); check the connection, "
                "or upload a GGUF to /api/blobs and name it in /api/create"
            ) from error
        try:
            return Manifest.decode(content)
        except ValueError as error:
            raise PullFailed(f"pull model manifest: {source.name.host} answers with something else") from error

    @asynccontextmanager
    async def blob(self, source: Source, digest: str, start: int) -> AsyncGenerator[tuple[int, AsyncIterator[bytes]]]:
        """Give a blob's bytes and which of them is the first: `start`, or 0 when the registry sends only all of them.

        Raises PullFailed when the registry refuses, and httpx's errors when the connection breaks.
        """
        headers = {"range": f"bytes={start}-"} if start else {}
        async with self._get(f"{source.url}/blobs/{digest}", headers) as response:
            _check(response, f"pull {digest}", source)
            first = start if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
            yield first, response.aiter_bytes(_CHUNK_BYTES)

    async def has_blob(self, source: Source, digest: str) -> bool:
        """Whether the registry has that part already. Raises PushFailed, and httpx's errors."""
        response = await self._http.head(f"{source.url}/blobs/{digest}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return False
        _check_push(response, digest, source)
        return True

    async def send_blob(self, source: Source, layer: Layer, pieces: AsyncIterator[bytes]) -> None:
        """Send the bytes of a part. Raises PushFailed when the registry refuses, and httpx's errors."""
        begun = await self._http.post(f"{source.url}/blobs/uploads/")
        _check_push(begun, layer.digest, source)
        address = begun.url.join(begun.headers.get("location", ""))
        if (begun.url.scheme, address.scheme) == ("https", "http"):
            raise PushFailed(
                f"{source.name.host} wants {layer.digest} at an address without encryption; it was not sent"
            )
        headers = {"content-type": "application/octet-stream", "content-length": str(layer.size)}
        taken = await self._http.put(
            address.copy_merge_params({"digest": layer.digest}), content=pieces, headers=headers
        )
        _check_push(taken, layer.digest, source)

    async def send_manifest(self, source: Source, manifest: Manifest) -> None:
        """Let the name in the registry point at the model. Raises PushFailed, and httpx's errors."""
        address = f"{source.url}/manifests/{source.name.tag}"
        taken = await self._http.put(address, content=manifest.encode(), headers={"content-type": MANIFEST_TYPE})
        _check_push(taken, "model manifest", source)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def _get(self, url: str, headers: dict[str, str]) -> AsyncGenerator[httpx.Response]:
        """The answer after all redirects, of which none leads from https to http."""
        request = self._http.build_request("GET", url, headers=headers)
        for _ in range(_REDIRECTS):
            response = await self._http.send(request, stream=True)
            if response.next_request is None:
                break
            await response.aclose()
            if request.url.scheme == "https" and response.next_request.url.scheme != "https":
                raise PullFailed(f"{request.url.host} redirects to an address without encryption; nothing was fetched")
            request = response.next_request
        else:
            raise PullFailed(f"{request.url.host} redirects without an end; nothing was fetched")
        try:
            yield response
        finally:
            await response.aclose()


def _check(response: httpx.Response, what: str, source: Source) -> None:
    if response.status_code == httpx.codes.NOT_FOUND:
        raise PullFailed(f"{what}: file does not exist")  # Ollama's words
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise PullFailed(
            f"{what}: {source.name.host} does not give it without signing in, which this engine does not do"
        )
    if response.is_error:
        raise PullFailed(f"{what}: {source.name.host} answered {response.status_code}; try again later")


def _check_push(response: httpx.Response, what: str, source: Source) -> None:
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise PushFailed(
            f"push {what}: {source.name.host} does not take it without signing in, which this engine does not do; copy "
            "the model's blobs and manifest from the models folder to that of an Ollama, which does"
        )
    if not response.is_success:
        raise PushFailed(f"push {what}: {source.name.host} answered {response.status_code}; try again later")


def progress(doing: str, layer: Layer, done: int) -> Json:
    """Ollama's status line of a blob that is `pulling` or `pushing`, `done` bytes of it so far."""
    status = f"{doing} {layer.digest[_SHORT_DIGEST]}"
    return {"status": status, "digest": layer.digest, "total": layer.size, "completed": done}


def reason(error: httpx.HTTPError) -> str:
    """What broke, in a word at least."""
    return str(error) or type(error).__name__
