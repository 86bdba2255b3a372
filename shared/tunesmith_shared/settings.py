"""Settings that every service has, and how all settings are read: `TUNESMITH_*`, then `config.yaml`, then defaults.

A service subclasses `ServiceSettings` in its own `settings.py` and calls `load_settings` once at its start; the
environment is read nowhere else.
"""

import os
import secrets
import sys
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

Port = int


def _env(*names: str) -> AliasChoices:
    """Read a field under its own TUNESMITH_ name and under a name that the field's other tools use, in this order."""
    return AliasChoices(*names)


class ServiceSettings(BaseSettings):
    """What all services agree on. Ports are TCP ports; paths may be relative to the directory of the start."""

    model_config = SettingsConfigDict(env_prefix="TUNESMITH_", extra="ignore", populate_by_name=True)

    data_dir: Path = Field(default=Path("data"), description="Where everything lives.")
    cache_dir: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "tunesmith",
        description="What can be made again: llama.cpp's tools, dequantised base models. Outside the checkout.",
    )
    models_dir: Path | None = Field(default=None, description="Ollama's model store. Default: <data_dir>/models.")
    first_model_type: Literal["auto", "Q8_0", "BF16"] = Field(
        default="auto",
        description="How the weights of smollm2:135m are kept: BF16, where processors compute with it, or Q8_0.",
    )
    model_family: str = Field(default="", description="With model_name, the model that the platform is set up with.")
    model_name: str = Field(default="", description="Served as <model_family>:<model_name>, or under itself alone.")
    files_dir: Path | None = Field(default=None, description="Uploaded files. Default: <data_dir>/files.")
    database_url: str = Field(
        default="",
        validation_alias=_env("TUNESMITH_DATABASE_URL", "DATABASE_URL", "database_url"),
        description="SQLAlchemy's URL. Default: SQLite in <data_dir>; postgresql://… for PostgreSQL.",
    )
    host: str = Field(default="127.0.0.1", description="Where the gateway listens.")
    port: Port = Field(default=8000, ge=1, le=65535, description="The gateway's port.")
    rag_host: str = "127.0.0.1"
    rag_port: Port = Field(default=8001, ge=1, le=65535)
    worker_host: str = "127.0.0.1"
    worker_port: Port = Field(default=8002, ge=1, le=65535)
    engine_host: str = "127.0.0.1"
    engine_port: Port = Field(default=11435, ge=1, le=65535)
    ollama_host: str = Field(
        default="",
        validation_alias=_env("TUNESMITH_OLLAMA_HOST", "OLLAMA_HOST", "ollama_host"),
        description="Ollama's API. Default: the engine of this platform.",
    )
    rag_url: str = Field(default="", description="The rag-service. Default: its host and port.")
    worker_url: str = Field(default="", description="The finetune-worker. Default: its host and port.")
    service_token: SecretStr = Field(
        default=SecretStr(""),
        description="What services show each other. Default: <data_dir>/secrets/service_token, made when absent.",
    )
    instance: str = Field(
        default="1", description="Tells several processes of one service apart; stable over restarts."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    otel_endpoint: str = Field(
        default="",
        validation_alias=_env("TUNESMITH_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "otel_endpoint"),
        description="An OpenTelemetry collector over OTLP/HTTP, such as http://collector:4318. Default: no traces.",
    )
    otel_headers: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=_env("TUNESMITH_OTEL_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS", "otel_headers"),
        description="What the collector wants to be shown: name=value,name=value.",
    )
    otel_sample_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        validation_alias=_env("TUNESMITH_OTEL_SAMPLE_RATIO", "OTEL_TRACES_SAMPLER_ARG", "otel_sample_ratio"),
        description="Which part of the requests that come without a trace is traced.",
    )
    drain_seconds: float = Field(default=20.0, ge=0, description="How long open requests may go on after SIGTERM.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then `config.yaml` (or the file that TUNESMITH_CONFIG names)."""
        file = Path(os.environ.get("TUNESMITH_CONFIG", "config.yaml"))
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=file)

    @model_validator(mode="after")
    def _derive(self) -> Self:
        self.data_dir = self.data_dir.expanduser().absolute()
        self.cache_dir = self.cache_dir.expanduser().absolute()
        self.models_dir = (self.models_dir or self.data_dir / "models").expanduser().absolute()
        self.files_dir = (self.files_dir or self.data_dir / "files").expanduser().absolute()
        self.database_url = async_database_url(self.database_url or f"sqlite:///{self.data_dir / 'tunesmith.db'}")
        self.ollama_host = _http_url(self.ollama_host or f"{self.engine_host}:{self.engine_port}")
        self.rag_url = self.rag_url or f"http://{self.rag_host}:{self.rag_port}"
        self.worker_url = self.worker_url or f"http://{self.worker_host}:{self.worker_port}"
        if not self.service_token.get_secret_value():
            self.service_token = SecretStr(_secret_file(self.data_dir / "secrets" / "service_token"))
        return self

    @property
    def models_path(self) -> Path:
        """The model store's folder, in Ollama's layout."""
        assert self.models_dir is not None  # noqa: S101 - set by _derive
        return self.models_dir

    @property
    def configured_model(self) -> str:
        """The name of the model that the configuration sets up; nothing when there is none."""
        return f"{self.model_family}:{self.model_name}" if self.model_family and self.model_name else self.model_name

    @property
    def files_path(self) -> Path:
        """The uploaded files' folder."""
        assert self.files_dir is not None  # noqa: S101 - set by _derive
        return self.files_dir


Settings = TypeVar("Settings", bound=ServiceSettings)


def load_settings(settings_class: type[Settings]) -> Settings:
    """Read and check the settings of a service; when any is wrong, print every mistake and leave with status 2."""
    try:
        return settings_class()
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
        sys.exit("The settings are not usable (TUNESMITH_* in the environment, or config.yaml):\n" + "\n".join(lines))


def async_database_url(url: str) -> str:
    """Return `url` with the asynchronous driver that the project uses for its kind of database.

    A URL that names no driver gets aiosqlite or psycopg; one that names a driver stays as it is.
    """
    scheme, separator, rest = url.partition("://")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}
    return f"{drivers.get(scheme, scheme)}{separator}{rest}"


def _http_url(host: str) -> str:
    """Return Ollama's way of naming a server (`host:port`, or a URL) as a URL without a trailing slash."""
    url = host if "://" in host else f"http://{host}"
    return url.rstrip("/").replace("://0.0.0.0", "://127.0.0.1")


def _secret_file(path: Path) -> str:
    """Return the secret in `path`; the first process that needs it makes it, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    if not path.exists():
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(32))
        try:
            os.link(draft, path)  # atomic, and fails when another process was first
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
