"""Where the gateway is and which key to show it: `TUNESMITH_*`, then `config.yaml`, then the embedded platform's place.

Not a `ServiceSettings`: asking a question must not make a data folder with secrets in whatever directory one is in, and
a command must not take longer to read five settings than the gateway takes to answer.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from tunesmith_gateway.cli.errors import CommandError

_PREFIX = "TUNESMITH_"
_LISTENS_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - replaced by the loopback, not bound


@dataclass(frozen=True)
class CommandSettings:
    """What the command line needs to know of the platform; `url` wins over `host` and `port` when it is set."""

    url: str
    host: str
    port: int
    api_key: str
    data_dir: Path

    @property
    def key_file(self) -> Path:
        """Where an embedded gateway keeps the key that it made."""
        return self.data_dir.expanduser().absolute() / "secrets" / "api_key"

    def address(self) -> str:
        """Return the gateway's URL; one that listens everywhere is asked on the loopback."""
        if self.url:
            return (self.url if "://" in self.url else f"http://{self.url}").rstrip("/")
        host = self.host if self.host not in _LISTENS_EVERYWHERE else "127.0.0.1"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def key(self) -> str:
        """Return the API key. Raises `CommandError` when there is none."""
        if self.api_key:
            return self.api_key
        try:
            return self.key_file.read_text().strip()
        except OSError:
            raise CommandError(
                f"There is no API key: set TUNESMITH_API_KEY, or TUNESMITH_DATA_DIR to the platform's data folder "
                f"(looked for {self.key_file})."
            ) from None


def load(host: str | None, port: int | None) -> CommandSettings:
    """Return the settings; `--host` and `--port` win over everything. Raises `CommandError` for unusable ones."""
    values = {**_from_file(Path(os.environ.get("TUNESMITH_CONFIG", "config.yaml"))), **_from_environment()}
    if host is not None or port is not None:
        values.pop("url", None)
    return CommandSettings(
        url=values.get("url", ""),
        host=host or values.get("host", "127.0.0.1"),
        port=_port(str(port) if port is not None else values.get("port", "8000")),
        api_key=values.get("api_key", ""),
        data_dir=Path(values.get("data_dir", "data")),
    )


def _from_environment() -> dict[str, str]:
    named = {name.upper(): value for name, value in os.environ.items()}
    return {name.removeprefix(_PREFIX).lower(): value for name, value in named.items() if name.startswith(_PREFIX)}


def _from_file(file: Path) -> dict[str, str]:
    """Return what the file that the services read, too, has on its first level; nothing when it is not there."""
    if not file.is_file():
        return {}
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415 - most commands have no such file to read

    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CommandError(f"{file} cannot be read: {' '.join(str(error).split())}.") from None
    fields = content.items() if isinstance(content, dict) else ()
    return {str(name): str(value) for name, value in fields if isinstance(value, (str, int))}


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise CommandError(f"TUNESMITH_PORT must be a number from 1 to 65535, not '{text}'.")
    return int(text)
