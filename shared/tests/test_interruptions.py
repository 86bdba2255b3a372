"""A workflow is given up when its process dies three times in one step; clean restarts and progress do not count."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith_shared.testing import wait_until

SERVICE = """
import os, signal, sys, threading, time
from pathlib import Path
from dbos import DBOS, SetWorkflowID
from tunesmith_shared import durable
from tunesmith_shared.settings import ServiceSettings

folder, settings = Path(sys.argv[1]), ServiceSettings()
ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())

@DBOS.workflow(**durable.WORKFLOW)
def work():
    for name in ("first", "second"):
        step(name)

@DBOS.step()
def step(name):
    with (folder / "log").open("a") as log:
        print(name, file=log)
    while not (folder / name).exists():
        if (folder / "die").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)

durable.launch(settings, "test")
with SetWorkflowID("work"):
    handle = DBOS.start_workflow(work)
status = ""
while not ending.is_set() and status not in ("SUCCESS", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
    status = handle.get_status().status
    ending.wait(0.05)
(folder / "status").write_text(status)
durable.shut_down(settings, "test")
os._exit(0)
"""


class Process:
    """The service of these tests: one workflow of two steps, each of which waits for a file."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment

    def begun(self) -> list[str]:
        """The steps that were begun, as often as they were."""
        log = self.folder / "log"
        return log.read_text().split() if log.exists() else []

    def run(self, *, until_begun: int) -> subprocess.Popen[bytes]:
        """Start it, and wait until so many steps were begun, or it ended."""
        process = subprocess.Popen([sys.executable, "-c", SERVICE, str(self.folder)], env=self._environment)
        wait_until(lambda: len(self.begun()) >= until_begun or process.poll() is not None, 60, "a step begins")
        return process

    def die(self) -> None:
        """Let it start, and kill itself in its step."""
        (self.folder / "die").touch()
        self.run(until_begun=len(self.begun()) + 1).wait()
        (self.folder / "die").unlink()

    def restart(self) -> None:
        """Let it start, begin its step, and end cleanly."""
        process = self.run(until_begun=len(self.begun()) + 1)
        process.terminate()
        process.wait()


@pytest.fixture
def service(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Process:
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", database_url)
    return Process(tmp_path, dict(os.environ))


def test_three_deaths_in_one_step_are_the_end_and_clean_restarts_are_none(service: Process) -> None:
    for _ in range(5):
        service.restart()
    for _ in range(2):
        service.die()
    service.restart()
    service.die()
    service.run(until_begun=100).wait()
    assert (service.folder / "status").read_text() == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    assert service.begun() == ["first"] * 9


def test_deaths_in_different_steps_do_not_add_up(service: Process) -> None:
    for _ in range(2):
        service.die()
    (service.folder / "first").touch()
    for _ in range(2):
        service.die()
    (service.folder / "second").touch()
    service.run(until_begun=100).wait()
    assert (service.folder / "status").read_text() == "SUCCESS"
