"""Many adapters on one base: one process has the base and all adapters made for it, and each request names its own.

llama.cpp keeps an adapter of scale nought loaded and leaves it out of its computation, so changing from one to another
costs what a request costs, where a process for each would load the base again. A process that was started before an
adapter was made does not have it: the first request for that one starts another process, with all there are then.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from tunesmith_engine.process import ModelProcess
from tunesmith_engine.specification import Specification
from tunesmith_shared.errors import BadRequest
from tunesmith_shared.store import ModelStore

MOST_SHARED = 32
"""How many adapters are loaded beside the one that is asked for, the newest ones."""


class Adapted(ModelProcess):
    """A process as one model sees it, whose requests say which adapters are on. It is started and ended elsewhere."""

    def __init__(self, process: ModelProcess, adapter_paths: tuple[str, ...]) -> None:
        self._whole = process
        self.specification = process.specification
        loaded = process.specification.adapter_paths
        scales = [1.0 if path in adapter_paths else 0.0 for path in loaded]
        self._fields = {"lora": [{"id": index, "scale": scale} for index, scale in enumerate(scales)]}

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._whole.alive

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._whole.pid

    @contextlib.asynccontextmanager
    async def request(self, path: str, body: object) -> AsyncIterator[aiohttp.ClientResponse]:
        """As `ModelProcess.request`, with the model's own adapters and no others."""
        adapted = {**body, **self._fields} if isinstance(body, dict) else body
        async with self._whole.request(path, adapted) as response:
            yield response


def adapted(process: ModelProcess, adapter_paths: tuple[str, ...]) -> ModelProcess:
    """Return the process for a model with these adapters.

    The base itself says in its requests, too, that it wants none: llama.cpp would else go on from what it remembers of
    the same prompt under another adapter.
    """
    return Adapted(process, adapter_paths) if process.specification.adapter_paths else process


def with_siblings(store: ModelStore, specification: Specification) -> Specification:
    """Return a specification that also has the adapters of the other models on the same base file."""
    found = dict.fromkeys(specification.adapter_paths)
    for stored in store.list():
        with contextlib.suppress(BadRequest, ValidationError, OSError):
            bases = [str(store.blob_path(layer.digest)) for layer in stored.manifest.of_kind("model")]
            adapters = [store.blob_path(layer.digest) for layer in stored.manifest.of_kind("adapter")]
            if specification.model_path in bases[:1] and all(map(Path.is_file, adapters)):
                found |= dict.fromkeys(map(str, adapters))
    most = len(specification.adapter_paths) + MOST_SHARED
    return replace(specification, adapter_paths=tuple(found)[:most])
