"""Registers model files over Ollama's API, where the worker cannot put them into the server's store itself.

Every byte crosses HTTP and the server writes its own copy, so this is the way for servers that keep their store to
themselves: on another machine, on a volume that is not shared, or as a user whose folders others cannot write.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import anyio
import httpx
from ollama import AsyncClient, ResponseError

from tunesmith_finetune.artifact import Artifact
from tunesmith_shared.errors import NotFound
from tunesmith_shared.names import ModelName
from tunesmith_shared.tracing import http_hooks

CHUNK_BYTES = 1 << 20
IDLE_SECONDS = 300.0


class Uploader:
    """Speaks to the server at `ollama_host`."""

    def __init__(self, ollama_host: str, client: AsyncClient) -> None:
        self._client = client
        self._http = httpx.AsyncClient(base_url=ollama_host, timeout=IDLE_SECONDS, **http_hooks())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def register(self, name: ModelName, artifact: Artifact) -> None:
        """Upload what is not there yet and let the server make `name` of it, replacing a model of that name.

        An adapter goes on top of the server's own `base_name`. Raises httpx's and ollama's errors.
        """
        parameters = dict(artifact.parameters) or None
        if artifact.adapter is None:
            files = {"model.gguf": await self._upload(artifact.gguf)}
            await self._client.create(name.display, files=files, parameters=parameters, system=artifact.system)
        else:
            adapters = {"adapter.gguf": await self._upload(artifact.adapter)}
            await self._client.create(
                name.display,
                from_=artifact.base_name,
                adapters=adapters,
                parameters=parameters,
                system=artifact.system,
            )

    async def remove(self, name: ModelName) -> None:
        """Remove a model. Raises `NotFound` when there is none of that name, else ollama's errors."""
        try:
            await self._client.delete(name.display)
        except ResponseError as error:
            if error.status_code == HTTPStatus.NOT_FOUND:
                raise NotFound(f"model '{name.display}' not found", param="model") from error
            raise

    async def parameters_of(self, name: str) -> dict[str, object]:
        """Return the options that `name` serves with. Raises `NotFound`, else ollama's errors."""
        try:
            shown = await self._client.show(name)
        except ResponseError as error:
            if error.status_code == HTTPStatus.NOT_FOUND:
                raise NotFound(f"model '{name}' not found", param="model") from error
            raise
        return read_parameters(shown.parameters or "")

    async def _upload(self, path: Path) -> str:
        """Let the server have the file and give its digest. A server that has it already is sent nothing."""
        digest, size = await anyio.to_thread.run_sync(_digest_and_size, path)
        url = f"/api/blobs/{digest}"
        if (await self._http.head(url)).is_success:
            return digest
        length = {"content-length": str(size)}
        (await self._http.post(url, content=_chunks(path), headers=length)).raise_for_status()
        return digest


def read_parameters(text: str) -> dict[str, object]:
    """Return what `/api/show` prints as a line an option: a name, spaces, a value; repeated ones are a list."""
    found: dict[str, list[object]] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name:
            found.setdefault(name, []).append(_value(value.strip()))
    return {name: values if name == "stop" or len(values) > 1 else values[0] for name, values in found.items()}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _digest_and_size(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", path.stat().st_size


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(CHUNK_BYTES):
            yield chunk
