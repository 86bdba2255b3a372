"""Where base models are found, and how a folder that training can start from is made of each, once.

    packaged    dequantised from a package's GGUF
    folder      `<base_models_dir>/<name>`, or `<organisation>--<name>` for what the hub calls `organisation/name`
    hub         in `<base_models_dir>/<organisation>--<name>/<revision>`, where scripts/load_base_model.py put it, or
                fetched there by the job, where the settings allow its name

Prepared folders are kept in `<cache_dir>/base-models` and can be deleted at any time.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import AsyncFileLock

from tunesmith_finetune.base_models import (
    BASE_MODELS,
    NOTE,
    BaseModel,
    find_packaged,
    packaged_gguf,
    read_folder,
    split_reference,
)
from tunesmith_finetune.processes import Limits, run_child
from tunesmith_shared.errors import BadRequest, NotFound, TunesmithError, Unavailable
from tunesmith_shared.store.requantise import served_type, write_served

RECIPE = "1"
"""Part of the folder's name; raised when the way in which folders are made changes."""
ONLINE = {"HF_HUB_OFFLINE": "0"}
_HUB_ERRORS: dict[str, type[TunesmithError]] = {"not_found": NotFound, "refused": BadRequest, "away": Unavailable}


class BaseModelStore:
    """The base models of a machine; several workers may share the folders."""

    def __init__(
        self,
        cache_dir: Path,
        limits: Limits,
        base_models_dir: Path | None = None,
        hub_models: Sequence[str] = (),
        first_model_type: str = "auto",
    ) -> None:
        """`first_model_type` is the setting of that name."""
        self._folder = cache_dir / "base-models"
        self._limits = limits
        self._sources = base_models_dir
        self._hub_models = tuple(hub_models)
        self._first_model_type = first_model_type

    def known(self) -> list[BaseModel]:
        """Return the base models that are here; of several revisions of one, the one that came last is first."""
        found = [read_folder(folder) for place in _folders(self._sources) for folder in (place, *_newest(place))]
        return [*BASE_MODELS.values(), *(base for base in found if base is not None)]

    def find(self, name: str) -> BaseModel | None:
        """Return the base model of this name that is here, or the one from which the served model `name` is made.

        Raises `BadRequest` for what can be no name.
        """
        if (parts := split_reference(name)) is not None:
            wanted, revision = parts
            for base in self.known():
                if base.name.lower() == wanted.lower() and revision in (None, base.revision):
                    return base
        return find_packaged(name)

    async def resolve(self, name: str) -> BaseModel | None:
        """Return the base model of this name, if need be from the hub, with the revision that it has there now.

        Raises `BadRequest`, `NotFound` or `Unavailable` when the hub has it not, or does not give it.
        """
        parts = split_reference(name)
        base = await asyncio.to_thread(self.find, name) if parts is None or "@" not in name else None
        if base is not None or parts is None or not self._allowed(parts[0]):
            return base or await asyncio.to_thread(self.find, name)
        answer = await self._ask_hub("resolve", parts[0], parts[1] or "main")
        fetched = await asyncio.to_thread(self.find, f"{parts[0]}@{answer['revision']}")
        return fetched or BaseModel(name=parts[0], license=answer["license"], revision=answer["revision"])

    def recall(self, reference: str) -> BaseModel | None:
        """Return the base model that a job has settled on; one with a revision may still have to be fetched."""
        parts = split_reference(reference)
        if (base := self.find(reference)) is not None or parts is None or parts[1] is None:
            return base
        return BaseModel(name=parts[0], revision=parts[1])

    def _allowed(self, repository: str) -> bool:
        return "/" in repository and any(fnmatch(repository.lower(), one.lower()) for one in self._hub_models)

    async def fetched(self, base: BaseModel) -> BaseModel:
        """Return `base` with its weights here. Raises like `resolve`, and `StorageFull`."""
        if base.package or base.source is not None:
            return base
        if self._sources is None or not self._allowed(base.name):
            raise NotFound(f"'{base.name}' is not here, and TUNESMITH_HUB_MODELS does not allow it.", param="model")
        folder = self._sources / base.slug / (base.revision or "main")
        folder.parent.mkdir(parents=True, exist_ok=True)
        async with AsyncFileLock(folder.with_name(f".{folder.name}.lock")):
            if not await asyncio.to_thread(folder.exists):
                await self._ask_hub("fetch", base.name, base.revision or "main", str(folder))
        return replace(read_folder(folder) or base, name=base.name, source=folder)

    async def _ask_hub(self, *command: str) -> dict[str, Any]:
        lines: list[str] = []

        async def hear(line: str) -> None:
            lines.append(line)

        self._folder.mkdir(parents=True, exist_ok=True)
        await run_child(
            [sys.executable, "-m", "tunesmith_finetune.hub", *command],
            title=f"Fetching {command[1]}",
            log=self._folder / "hub.log",
            limits=self._limits,
            on_line=hear,
            environment=ONLINE,
        )
        answer: dict[str, Any] = json.loads(lines[-1])
        if "error" in answer:
            raise _HUB_ERRORS[answer["kind"]](answer["error"], param="model")
        return answer

    def folder(self, base: BaseModel) -> Path:
        """Return where the prepared `base`, whose weights are here, is, there or not."""
        return self._folder / f"{base.slug}-{RECIPE}{_fingerprint(base)}"

    def f16_gguf(self, base: BaseModel) -> Path:
        """Return where the half-precision GGUF of `base` is, there or not."""
        return self._folder / f"{self.folder(base).name}.f16.gguf"

    async def served_gguf(self, base: BaseModel) -> Path:
        """Return the file that an adapter of `base` is served on: the half-precision one, or of a package the one that
        the model itself is served from, made now if it is not there.
        """
        if not base.package:
            return self.f16_gguf(base)
        kind = served_type(self._first_model_type)
        path = self._folder / f"{self.folder(base).name}.{kind.lower()}.gguf"
        async with self.lock(path):
            if not await asyncio.to_thread(path.exists):
                draft = path.with_name(f".{path.name}.part")  # whoever was interrupted left it; there is one at a time
                await asyncio.to_thread(write_served, packaged_gguf(base), draft, kind)
                await asyncio.to_thread(draft.rename, path)
        return path

    def parameters(self, base: BaseModel) -> dict[str, Any]:
        """Return the options that what is made from the prepared `base` must serve with, such as stop strings."""
        note = self.folder(base) / NOTE
        parameters: dict[str, Any] = json.loads(note.read_text("utf-8"))["parameters"] if note.exists() else {}
        return parameters

    def lock(self, path: Path) -> AsyncFileLock:
        """Return the lock that whoever makes `path` must hold."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return AsyncFileLock(path.with_name(f".{path.name}.lock"))

    async def prepare(self, base: BaseModel) -> Path:
        """Return the folder of `base`, made now if it is not there. Raises `ChildFailed`, and what `fetched` raises."""
        base = await self.fetched(base)
        folder = await asyncio.to_thread(self.folder, base)
        async with self.lock(folder):
            if not await asyncio.to_thread(folder.exists):
                maker, source = ("dequantise", packaged_gguf(base)) if base.package else ("adopt", base.source)
                await run_child(
                    [sys.executable, "-m", f"tunesmith_finetune.{maker}", str(source), str(folder)],
                    title=f"Preparing the base model {base.name}",
                    log=folder.with_name(f"{folder.name}.log"),
                    limits=self._limits,
                )
        return folder


def _folders(parent: Path | None) -> list[Path]:
    """Return the folders in `parent`; those of downloads that are not complete have names with a dot."""
    if parent is None or not parent.is_dir():
        return []
    return sorted(folder for folder in parent.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _newest(parent: Path) -> list[Path]:
    return sorted(_folders(parent), key=lambda folder: folder.stat().st_mtime, reverse=True)


def _fingerprint(base: BaseModel) -> str:
    """Return what changes when a file in the source folder does; nothing for a package, which has a version."""
    if base.source is None:
        return ""
    files = sorted(path for path in base.source.iterdir() if path.is_file())
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return "-" + hashlib.sha256(repr(states).encode()).hexdigest()[:12]
