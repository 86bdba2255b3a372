"""``/api/push``: send a model to a registry, with Ollama's status lines.

    each blob that the registry has not -> the manifest

The name in the registry points at the model when all of it is there.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import httpx

from tunesmith_engine.models import Json
from tunesmith_engine.registry import REPORT_SECONDS, PushFailed, Registries, Source, progress, reason
from tunesmith_shared.store import Layer, ModelStore

_ATTEMPTS = 3
"""Broken connections at one blob after which a push gives up."""

_PIECE_BYTES = 1 << 20


class Pusher:
    """Publishes models of a store."""

    def __init__(self, store: ModelStore, registries: Registries) -> None:
        self._store = store
        self._registries = registries

    def source(self, wanted: str, *, insecure: bool) -> Source:
        """Read a model's name, which says where it goes. Raises BadRequest as for a pull, and NotFound."""
        source = Source.of(wanted, insecure=insecure)
        self._registries.check(source, "published")
        self._store.read_model(source.name)
        return source

    async def push(self, source: Source) -> AsyncGenerator[Json]:
        """Yield Ollama's status lines. Raises PushFailed, and NotFound for a model that is gone."""
        yield {"status": "retrieving manifest"}
        manifest = await asyncio.to_thread(self._store.read_manifest, source.name)
        for layer in manifest.references:
            async with aclosing(self._blob(source, layer)) as lines:
                async for line in lines:
                    yield line
        yield {"status": "pushing manifest"}
        try:
            await self._registries.send_manifest(source, manifest)
        except httpx.HTTPError as error:
            raise PushFailed(f"push model manifest: {source.name.host} cannot be reached ({reason(error)})") from error
        yield {"status": "success"}

    async def _blob(self, source: Source, layer: Layer) -> AsyncGenerator[Json]:
        """Send one blob, unless the registry has it."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if not await self._registries.has_blob(source, layer.digest):
                    async with aclosing(self._sent(source, layer)) as amounts:
                        async for done in amounts:
                            yield progress("pushing", layer, done)
                break
            except httpx.HTTPError as error:
                if attempt == _ATTEMPTS:
                    raise PushFailed(
                        f"push {layer.digest}: the connection to {source.name.host} broke {_ATTEMPTS} times "
                        f"({reason(error)}); check it, and push again: what the registry has is not sent again"
                    ) from error
        yield progress("pushing", layer, layer.size)

    async def _sent(self, source: Source, layer: Layer) -> AsyncGenerator[int]:
        """Send all of a blob; yield how many bytes are on their way, now and then."""
        sent = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            with self._store.blob_path(layer.digest).open("rb") as file:
                while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                    yield piece
                    sent += len(piece)

        sending = asyncio.create_task(self._registries.send_blob(source, layer, pieces()))
        try:
            while not sending.done():
                yield sent
                await asyncio.wait({sending}, timeout=REPORT_SECONDS)
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
