"""``/api/pull``: fetch a model from a registry, with Ollama's status lines.

    manifest -> each blob that is missing, checked against its digest -> the name points at the model

A blob that was cut off goes on where it was, also after a restart; two requests for one blob fetch it once. Nothing
is visible before all of it is there.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from weakref import WeakValueDictionary

import httpx

from tunesmith_engine.models import Json
from tunesmith_engine.registry import REPORT_SECONDS, PullFailed, Registries, Source, progress
from tunesmith_shared.errors import BadRequest, StorageFull
from tunesmith_shared.store import Layer, ModelStore
from tunesmith_shared.store.blobs import storage_errors

_ATTEMPTS = 5
"""Broken connections in a row, none of which came further than an earlier one, after which a pull gives up."""

_PAUSE_SECONDS = 1.0


class Puller:
    """Fetches models into a store."""

    def __init__(self, store: ModelStore, registries: Registries) -> None:
        self._store = store
        self._registries = registries
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def source(self, wanted: str, *, insecure: bool) -> Source:
        """Read a model's name. Raises BadRequest for what is none, or in a registry that is not allowed."""
        source = Source.of(wanted, insecure=insecure)
        self._registries.check(source, "fetched")
        return source

    async def pull(self, source: Source) -> AsyncGenerator[Json]:
        """Yield Ollama's status lines. Raises PullFailed, StorageFull."""
        yield {"status": "pulling manifest"}
        manifest = await self._registries.manifest(source)
        await asyncio.to_thread(self._require_room, manifest.references)
        for layer in manifest.references:
            async with aclosing(self._blob(source, layer)) as lines:
                async for line in lines:
                    yield line
        yield {"status": "writing manifest"}
        await asyncio.to_thread(self._store.write_manifest, source.name, manifest)
        yield {"status": "success"}

    def _require_room(self, layers: tuple[Layer, ...]) -> None:
        missing = (layer for layer in layers if not self._store.has_blob(layer.digest))
        self._store.require_room(sum(layer.size - max(0, self._have(layer)) for layer in missing))

    def _have(self, layer: Layer) -> int:
        return _size(self._store.partial_path(layer.digest))

    async def _blob(self, source: Source, layer: Layer) -> AsyncGenerator[Json]:
        """Fetch and check one blob, unless it is there."""
        lock = self._fetching.setdefault(layer.digest, asyncio.Lock())
        async with lock:
            if self._store.has_blob(layer.digest):
                yield progress("pulling", layer, layer.size)
                return
            partial = self._store.partial_path(layer.digest)
            try:
                async with aclosing(self._fetched(source, layer, partial)) as amounts:
                    async for done in amounts:
                        yield progress("pulling", layer, done)
            except StorageFull:
                partial.unlink(missing_ok=True)
                raise
            yield {"status": "verifying sha256 digest"}
            try:
                await asyncio.to_thread(self._store.finish_partial, layer.digest)
            except BadRequest as error:
                raise PullFailed(f"{error.message}; what came was removed, pull again") from error

    async def _fetched(self, source: Source, layer: Layer, partial: Path) -> AsyncGenerator[int]:
        """Fetch a blob into `partial` until it has its size; yield how many bytes there are, now and then."""
        clock = asyncio.get_running_loop()
        failures, furthest, reported = 0, 0, clock.time() - REPORT_SECONDS
        while (done := _size(partial)) != layer.size:
            try:
                start = done if 0 < done < layer.size else 0
                async with aclosing(self._appended(source, layer, partial, start)) as amounts:
                    async for done in amounts:
                        if done > furthest:
                            failures, furthest = 0, done
                        if clock.time() - reported >= REPORT_SECONDS:
                            reported = clock.time()
                            yield done
            except httpx.HTTPError as error:
                failures += 1
                if failures == _ATTEMPTS:
                    raise PullFailed(
                        f"pull {layer.digest}: the connection broke {failures} times in a row "
                        f"({error or type(error).__name__}); pull again to go on where it broke"
                    ) from error
                if failures > 1:
                    await asyncio.sleep(_PAUSE_SECONDS)
        yield layer.size

    async def _appended(self, source: Source, layer: Layer, partial: Path, start: int) -> AsyncGenerator[int]:
        """Write what one answer of the registry has; yield the size of `partial` after each piece."""
        async with self._registries.blob(source, layer.digest, start) as (first, pieces):
            with storage_errors(partial), partial.open("r+b" if first else "wb") as file:
                file.seek(first)
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
                    if file.tell() > layer.size:
                        file.truncate(0)
                        raise PullFailed(f"pull {layer.digest}: the registry sends more than its {layer.size} bytes")
                    yield file.tell()


def _size(path: Path) -> int:
    """The bytes of a file; -1 when there is none."""
    return path.stat().st_size if path.exists() else -1
