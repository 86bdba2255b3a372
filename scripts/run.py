"""Start the platform: `make run`. Checks what could stop it, migrates the database, starts one process a service.

The services are those of the Procfile, run by honcho: their logs are prefixed, Ctrl-C stops them all, and when one
ends by itself the others are stopped and its last lines say why.
"""

import errno
import json
import os
import shutil
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from honcho import manager
from honcho.environ import parse_procfile

from tunesmith_shared.migrate import migrate
from tunesmith_shared.settings import ServiceSettings, load_settings

ROOT = Path(__file__).parent.parent
NEEDED_GIB = 2
BUILD_TOOLS = ("cmake", "make", "c++")
READY_SECONDS = 300
PROCESS_FILE = "platform.pid"
"""Tells scripts/backup.sh and restore.sh which processes work on a data directory."""

_BANNER = """
Tunesmith is ready at {url}
  API key   {key}
  Data      {data}
  Stop      Ctrl-C

Try, in another terminal:
  curl {url}/generate -H "Authorization: Bearer {key}" \\
       -H "Content-Type: application/json" -d '{{"prompt": "Why is the sky blue?"}}'
  curl {url}/list_Models -H "Authorization: Bearer {key}"
  make demo
"""


def main() -> int:
    """Return honcho's exit status: 130 after Ctrl-C."""
    settings = load_settings(ServiceSettings)
    if _healthy(_url(settings)):
        print(f"Tunesmith is running already at {_url(settings)}. Stop it with Ctrl-C where it was started.")
        return 0
    problems, warnings = check(settings)
    for warning in warnings:
        print(f"Note: {warning}", flush=True)
    if problems:
        print("Tunesmith was not started:\n" + "\n".join(f"  - {problem}" for problem in problems), file=sys.stderr)
        return 1
    migrate(settings.database_url)
    return _run(settings)


def check(settings: ServiceSettings) -> tuple[list[str], list[str]]:
    """Return what must be put right before a start, and what a person should know; both as sentences."""
    problems = [
        f"Port {port} is in use, which the {name} needs. Stop what listens there, or set {variable} to another port."
        for name, host, port, variable in (
            ("gateway", settings.host, settings.port, "TUNESMITH_PORT"),
            ("rag-service", settings.rag_host, settings.rag_port, "TUNESMITH_RAG_PORT"),
            ("finetune-worker", settings.worker_host, settings.worker_port, "TUNESMITH_WORKER_PORT"),
            ("engine", settings.engine_host, settings.engine_port, "TUNESMITH_ENGINE_PORT"),
        )
        if _in_use(host, port)
    ]
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data_dir).free / 2**30
    if free < NEEDED_GIB:
        problems.append(
            f"Too little disk: {settings.data_dir} has {free:.1f} GiB free and Tunesmith needs {NEEDED_GIB} GiB. "
            "Free some, or set TUNESMITH_DATA_DIR to a larger disk."
        )
    missing = [tool for tool in BUILD_TOOLS if shutil.which(tool) is None]
    warnings = []
    if missing:
        warnings.append(
            f"{', '.join(missing)} missing: chat and documents work, fine-tuning will not. On Debian or Ubuntu: "
            "apt install build-essential cmake; on macOS: xcode-select --install and brew install cmake."
        )
    return problems, warnings


def _in_use(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _run(settings: ServiceSettings) -> int:
    manager.KILL_WAIT = settings.drain_seconds + 5
    runner = manager.Manager()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "TUNESMITH_DATA_DIR": str(settings.data_dir),
        "PYTHONUNBUFFERED": "1",
    }
    procfile = parse_procfile((ROOT / "Procfile").read_text())
    for name, command in procfile.processes.items():
        runner.add_process(name, command, env=environment, cwd=str(ROOT))
    threading.Thread(target=_announce, args=(settings,), daemon=True).start()
    process_file = settings.data_dir / PROCESS_FILE
    process_file.write_text(f"{os.getpid()}\n")
    try:
        runner.loop()
    finally:
        process_file.unlink(missing_ok=True)
    return int(runner.returncode or 0)


def _announce(settings: ServiceSettings) -> None:
    """Print the banner once the gateway, everything behind it and the first model answer."""
    url = _url(settings)
    key_file = settings.data_dir / "secrets" / "api_key"
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        key = os.environ.get("TUNESMITH_API_KEY") or (key_file.read_text().strip() if key_file.exists() else "")
        if key and _models(url, key):
            shown = key if key_file.exists() else "the value of TUNESMITH_API_KEY"
            print(_BANNER.format(url=url, key=shown, data=settings.data_dir), flush=True)
            return
        time.sleep(0.1)
    print(f"Tunesmith has not become ready within {READY_SECONDS} s; {url}/health says what is missing.", flush=True)


def _url(settings: ServiceSettings) -> str:
    return f"http://{settings.host}:{settings.port}".replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - for people


def _healthy(url: str) -> bool:
    """Tell whether a Tunesmith answers at `url` and everything behind it does."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:  # noqa: S310 - our own address
            return "finetune-worker" in json.load(answer)["dependencies"]
    except (urllib.error.URLError, OSError, KeyError, TypeError, ValueError):
        return False


def _models(url: str, key: str) -> list[str]:
    """Return the models that can be asked; none while something is still starting."""
    if not _healthy(url):
        return []
    try:
        request = urllib.request.Request(f"{url}/list_Models", headers={"authorization": f"Bearer {key}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own address
            return [model["name"] for model in json.load(answer)["models"]]
    except (urllib.error.URLError, OSError, KeyError, json.JSONDecodeError):
        return []


if __name__ == "__main__":
    sys.exit(main())
