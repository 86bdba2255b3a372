"""The scripts of a running platform, on one that `make run`'s own starter started: backup, cleaning, restore."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tunesmith_shared.testing import free_port, wait_for_models, wait_until

ROOT = Path(__file__).parents[1]
PORTS = ("TUNESMITH_PORT", "TUNESMITH_RAG_PORT", "TUNESMITH_WORKER_PORT", "TUNESMITH_ENGINE_PORT")
KEY = "ts-key-of-the-maintenance-test"
MODEL = "smollm2:135m"


@dataclass(frozen=True)
class Running:
    """A platform on `data`; `environment` is its settings, which the scripts read too."""

    data: Path
    environment: dict[str, str]

    @property
    def client(self) -> httpx.Client:
        """A client with the administrator's key."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.environment["TUNESMITH_URL"], headers=headers, timeout=120, trust_env=False)

    def script(self, *command: str) -> tuple[int, str]:
        """Return the status of a script and what it printed."""
        done = subprocess.run(
            [str(ROOT / "scripts" / command[0]), *command[1:]],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout

    def answers(self) -> str:
        """What the platform knows and says without chance; the Compose stack is asked the same."""
        command = [sys.executable, str(ROOT / "scripts" / "check_compose.py"), "answers"]
        return subprocess.run(command, env=self.environment, text=True, capture_output=True, check=True).stdout


@contextmanager
def running(data: Path) -> Iterator[Running]:
    """Give a platform started by scripts/run.py, and stop it as Ctrl-C does."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TUNESMITH_", "COMPOSE_"))}
    environment |= {variable: str(free_port()) for variable in PORTS}
    environment |= {
        "TUNESMITH_DATA_DIR": str(data),
        "TUNESMITH_API_KEY": KEY,
        "TUNESMITH_URL": f"http://127.0.0.1:{environment['TUNESMITH_PORT']}",
        "TUNESMITH_WORKER_BUILD_TOOLS": "false",
        "DATABASE_URL": "",
    }
    log = data.with_suffix(".log")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "run.py")], env=environment, stdout=output, stderr=output
        )
    platform = Running(data, environment)

    def healthy() -> bool:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            return httpx.get(f"{environment['TUNESMITH_URL']}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(healthy, 300, f"the platform is healthy; its log is {log}")
        wait_for_models(f"http://127.0.0.1:{environment['TUNESMITH_ENGINE_PORT']}")
        yield platform
    finally:
        process.terminate()
        process.wait(120)


def fill(platform: Running) -> None:
    """Make a model and a document."""
    with platform.client as client:
        made = {"modelName": "pirate", "baseModel": MODEL, "systemTemplate": "You are a pirate."}
        client.post("/createModel", json=made).raise_for_status()
        with (ROOT / "examples" / "handbook.pdf").open("rb") as file:
            files, data = {"file": file}, {"modelName": MODEL}
            assert client.post("/importDocument", files=files, data=data).json()["status"] == "completed"


def models(platform: Running) -> set[str]:
    """The names of the models."""
    with platform.client as client:
        return {model["name"] for model in client.get("/list_Models").raise_for_status().json()["models"]}


def documents(platform: Running) -> list[str]:
    """The names of the documents of the model."""
    with platform.client as client:
        listed = client.get("/listDocuments", params={"modelName": MODEL}).raise_for_status().json()["documents"]
        return [document["documentName"] for document in listed]


def back_up_while_it_answers(platform: Running, folder: Path) -> None:
    """Make a backup in the middle of a streamed answer, which goes on afterwards."""
    begun, pieces = threading.Event(), []

    def chat() -> None:
        body = {"model": MODEL, "stream": True, "max_tokens": 200, "messages": [{"role": "user", "content": "Count."}]}
        with platform.client as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
            for line in answer.iter_lines():
                pieces.append(line)
                begun.set()

    reader = threading.Thread(target=chat)
    reader.start()
    assert begun.wait(120)
    status, said = platform.script("backup.sh", str(folder))
    assert status == 0, said
    reader.join(120)
    assert "data: [DONE]" in pieces


@pytest.mark.timeout(900)
def test_a_backup_of_a_running_platform_answers_the_same_from_an_empty_folder(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    (tmp_path / "first" / "base-models" / "left-out").mkdir(parents=True)
    with running(tmp_path / "first") as platform:
        fill(platform)
        before = platform.answers()
        back_up_while_it_answers(platform, backup)
        assert platform.script("backup.sh", str(backup))[0] == 1  # is there already

        status, said = platform.script("restore.sh", str(backup), "--yes")
        assert (status, "stop it first" in said) == (1, True)
        look_at_cleaning(platform)
    first = platform

    with (backup / "data.tar").open("ab") as file:
        file.write(b"x")
    status, said = first.script("restore.sh", str(backup), "--yes")
    assert (status, "damaged" in said) == (1, True)
    with (backup / "data.tar").open("r+b") as file:
        file.truncate((backup / "data.tar").stat().st_size - 1)

    second = Running(tmp_path / "second", {**first.environment, "TUNESMITH_DATA_DIR": str(tmp_path / "second")})
    status, said = second.script("restore.sh", str(backup))
    assert (status, "add --yes" in said, second.data.exists()) == (0, True, False)
    (second.data / "base-models" / "kept").mkdir(parents=True)
    status, said = second.script("restore.sh", str(backup), "--yes")
    assert status == 0, said
    assert [path.name for path in (second.data / "base-models").iterdir()] == ["kept"]
    with running(tmp_path / "second") as platform:
        assert platform.answers() == before
        assert documents(platform) == ["handbook.pdf"]


def look_at_cleaning(platform: Running) -> None:
    """The cleaning scripts only show what they would do, until they are given --yes."""
    status, said = platform.script("clean_ollama_cache.sh")
    assert (status, "would delete pirate:latest (made)" in said, MODEL in said) == (0, True, False)
    assert "would delete all-minilm:latest (pulled)" in platform.script("clean_ollama_cache.sh", "--all")[1]
    status, said = platform.script("clean_vector_db.sh", "--model", MODEL)
    assert (status, "would delete the document handbook.pdf" in said) == (0, True)
    assert "would delete the vector store" in platform.script("clean_vector_db.sh", "--all")[1]
    assert "pirate:latest" in models(platform)
    assert documents(platform) == ["handbook.pdf"]

    assert platform.script("clean_ollama_cache.sh", "--yes")[0] == 0
    assert platform.script("clean_vector_db.sh", "--all", "--yes")[0] == 0
    assert models(platform) == {MODEL, "all-minilm:latest"}
    assert documents(platform) == []
    assert "nothing to delete" in platform.script("clean_vector_db.sh", "--all", "--yes")[1]
    assert platform.script("clean_vector_db.sh")[0] == 1
    for script in ("backup.sh", "restore.sh", "clean_ollama_cache.sh", "clean_vector_db.sh"):
        status, said = platform.script(script, "--help")
        assert (status, f"scripts/{script}" in said) == (0, True)
