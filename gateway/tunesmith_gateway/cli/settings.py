"""Where the gateway is and which key to show it: `TUNESMITH_*`, then `config.yaml`, then the embedded platform's place.

Not a `ServiceSettings`: asking a question must not make a data folder with secrets in whatever directory one is in.
"""

import os
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from tunesmith_gateway.cli.errors import CommandError


class CommandSettings(BaseSettings):
    """What the command line needs to know of the platform."""

    model_config = SettingsConfigDict(env_prefix="TUNESMITH_", extra="ignore")

    url: str = Field(default="", description="The gateway's address. Default: http://<host>:<port>.")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    api_key: SecretStr = SecretStr("")
    data_dir: Path = Path("data")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file that the services read too."""
        file = Path(os.environ.get("TUNESMITH_CONFIG", "config.yaml"))
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=file)

    @property
    def key_file(self) -> Path:
        """Where an embedded gateway keeps the key that it made."""
        return self.data_dir.expanduser().absolute() / "secrets" / "api_key"

    def address(self) -> str:
        """Return the gateway's URL; one that listens everywhere is asked on the loopback."""
        if self.url:
            return (self.url if "://" in self.url else f"http://{self.url}").rstrip("/")
        host = self.host if self.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - replaced, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def key(self) -> str:
        """Return the API key. Raises `CommandError` when there is none."""
        if configured := self.api_key.get_secret_value():
            return configured
        try:
            return self.key_file.read_text().strip()
        except OSError:
            raise CommandError(
                f"There is no API key: set TUNESMITH_API_KEY, or TUNESMITH_DATA_DIR to the platform's data folder "
                f"(looked for {self.key_file})."
            ) from None


def load(host: str | None, port: int | None) -> CommandSettings:
    """Return the settings; `--host` and `--port` win over everything. Raises `CommandError` for unusable ones."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        return CommandSettings(**given, **({"url": ""} if given else {}))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"TUNESMITH_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}.") from None
