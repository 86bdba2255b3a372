"""What a job made, as it is registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Artifact:
    """A model file, or with `adapter` the base's file and what was learnt on top of it.

    `base_name` is the served model that the adapter's base is; `parameters` are the options to serve with, `system` the
    system prompt.
    """

    gguf: Path
    parameters: Mapping[str, object]
    adapter: Path | None = None
    base_name: str = ""
    system: str | None = None
