"""The engine's settings: TUNESMITH_ENGINE_* and what all services share."""

import psutil
from pydantic import Field, field_validator

from tunesmith_engine.durations import parse_duration
from tunesmith_engine.llama_server import LIBRARY, find
from tunesmith_shared.memory import usable_memory
from tunesmith_shared.settings import ServiceSettings


def _memory_budget() -> int:
    """Seven tenths of the machine's memory, or of the container's when that is less, in bytes."""
    return usable_memory() * 7 // 10


def _physical_cores() -> int:
    return psutil.cpu_count(logical=False) or 1


class EngineSettings(ServiceSettings):
    """How models are loaded and for how long they stay."""

    engine_parallel: int = Field(default=4, ge=1, le=64, description="Requests that one model answers at once.")
    engine_context: int = Field(default=4096, ge=64, description="Tokens of context a request gets by default.")
    engine_threads: int = Field(
        default_factory=_physical_cores, ge=1, description="CPU threads of a model. Default: the physical cores."
    )
    engine_batch: int = Field(
        default=128,
        ge=32,
        description="Prompt tokens read in one go. Requests stop and share between goes; GPUs like more.",
    )
    engine_llama_server: str = Field(
        default="",
        description="A llama-server that models run in, by its path or its name in PATH, or `library` for the library "
        "in the wheel. Default: the one in the cache that is built for this processor, the library until there is one.",
    )
    engine_gpu_layers: int = Field(
        default=-1, ge=-1, description="Layers of a model on the GPU, where the build has one. Default: all of them."
    )
    engine_memory_bytes: int = Field(
        default_factory=_memory_budget, ge=1, description="What loaded models may take together."
    )
    engine_max_models: int = Field(default=8, ge=1, description="Models loaded at once, whatever their size.")
    engine_max_queue: int = Field(default=512, ge=1, description="Requests that may wait for a model to be loaded.")
    engine_keep_alive: str = Field(default="5m", description="How long an idle model stays loaded; -1 is for ever.")
    engine_load_seconds: float = Field(default=300.0, gt=0, description="How long a model may take to load.")
    engine_registries: str = Field(
        default="registry.ollama.ai, hf.co, huggingface.co",
        description="Hosts of registries that models may be pulled from and pushed to. Empty: none.",
    )
    engine_seed: bool = Field(default=True, description="Put smollm2:135m and all-minilm into an empty store.")
    engine_prune: bool = Field(default=True, description="Delete what no model refers to at the start, as Ollama does.")

    @property
    def registry_hosts(self) -> list[str]:
        """The hosts of `engine_registries`, in lower case."""
        return [host.strip().lower() for host in self.engine_registries.split(",") if host.strip()]

    @field_validator("engine_keep_alive")
    @classmethod
    def _check_keep_alive(cls, value: str) -> str:
        parse_duration(value)
        return value

    @field_validator("engine_llama_server")
    @classmethod
    def _find_llama_server(cls, value: str) -> str:
        return value if value in {"", LIBRARY} else str(find(value))
