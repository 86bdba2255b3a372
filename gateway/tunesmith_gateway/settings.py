"""The gateway's settings, beside those that every service has, and the rows of its table of backends."""

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from tunesmith_shared.settings import ServiceSettings

_Seconds = Annotated[float, Field(gt=0)]


class BackendRow(BaseModel):
    """One backend: where it is, what it speaks, and which models are asked there. Times are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="What people and metrics call it.")
    kind: Literal["ollama", "openai"] = Field(default="ollama", description="The API that it speaks.")
    url: str = Field(default="", description="Its address. Default: the platform's OLLAMA_HOST.")
    models: tuple[str, ...] = Field(default=("*",), min_length=1, description="Patterns of the models asked there.")
    renames: dict[str, str] = Field(default_factory=dict, description="Names that clients use, to the backend's own.")
    api_key_env: str = Field(default="", description="The environment variable that holds its key.")
    several_choices: bool = Field(default=True, description="Whether an OpenAI-compatible server takes n.")
    options: dict[str, str] = Field(
        default_factory=dict, description="Ollama's sampling options that such a server knows, to its names for them."
    )
    context: int | None = Field(default=None, ge=1, description="Tokens of context, where it does not tell them.")
    connect_timeout: _Seconds | None = None
    first_byte_timeout: _Seconds | None = None
    between_bytes_timeout: _Seconds | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must be an http:// or https:// URL")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must be an address alone; a key belongs into the variable that api_key_env names")
        return value.rstrip("/")

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"backend '{self.name}'"


class GatewaySettings(ServiceSettings):
    """Read once, at the start. Sizes are in MiB, times in seconds."""

    api_key: SecretStr = Field(default=SecretStr(""), description="The first administrator key; made when absent.")
    default_model: str = Field(default="smollm2:135m", description="What plain requests without a model get.")
    upload_limit_mb: int = Field(default=1024, ge=1)
    body_limit_mb: int = Field(default=32, ge=1, description="The largest body that is no upload.")
    connect_timeout: float = Field(default=5.0, gt=0)
    first_byte_timeout: float = Field(default=600.0, gt=0, description="Loading a model and reading the prompt count.")
    import_wait: float = Field(default=60.0, ge=0, description="How long /importDocument waits before it answers 202.")
    chunks_per_answer: int = Field(default=3, ge=1, le=20, description="How many chunks a grounded prompt holds.")
    queries_per_answer: int = Field(
        default=1, ge=1, le=8, description="Versions of a question about documents; the model writes the others."
    )
    requests_per_minute: int = Field(default=0, ge=0, description="Of one key; 0 is no limit, as in the next two.")
    tokens_per_minute: int = Field(default=0, ge=0, description="Of one key, prompts and answers together.")
    concurrency: int = Field(default=0, ge=0, description="Generations of one key at once.")
    running_generations: int = Field(default=64, ge=0, description="Of all keys at once; the others wait.")
    waiting_generations: int = Field(default=256, ge=0, description="How many wait before more are refused.")
    batch_concurrency: int = Field(default=4, ge=1, le=256, description="How many lines of batches run at once.")
    backends: tuple[BackendRow, ...] = Field(default=(), description="Where inference goes. Default: OLLAMA_HOST.")
    backend_check_seconds: float = Field(default=10.0, gt=0, description="Between two checks of each backend.")
    between_bytes_timeout: float = Field(default=120.0, gt=0, description="Of a backend, once its answer began.")

    _backend_keys: dict[str, SecretStr] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _serve_the_configured_model(self) -> Self:
        if self.configured_model and "default_model" not in self.model_fields_set:
            self.default_model = self.configured_model
        return self

    @model_validator(mode="after")
    def _complete_backends(self) -> Self:
        rows = self.backends or (BackendRow(name="ollama"),)
        problems = [
            f"two rows are named '{name}'" for name, times in Counter(r.name for r in rows).items() if times > 1
        ]
        for row in rows:
            if row.api_key_env and not os.environ.get(row.api_key_env):
                problems.append(f"{row.name}: the environment variable {row.api_key_env} is not set")
            self._backend_keys[row.name] = SecretStr(os.environ.get(row.api_key_env, "") if row.api_key_env else "")
        if problems:
            raise ValueError("backends: " + "; ".join(problems))
        self.backends = tuple(row.model_copy(update={"url": row.url or self.ollama_host}) for row in rows)
        return self

    def backend_key(self, row: BackendRow) -> str:
        """Return the key that a backend wants; nothing when it wants none."""
        return self._backend_keys[row.name].get_secret_value()

    @property
    def api_key_file(self) -> Path:
        """Where a key that the gateway made is kept for the local console and command line."""
        return self.data_dir / "secrets" / "api_key"
