"""Children end well, end badly with a name for it, and never outlive who started them."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tunesmith_finetune.processes import ChildFailed, Limits, run_child
from tunesmith_shared.testing import wait_until

FREE = Limits(None, 60)


async def _python(code: str, log: Path, limits: Limits = FREE) -> list[str]:
    lines: list[str] = []

    async def hear(line: str) -> None:
        lines.append(line)

    await run_child([sys.executable, "-c", code], title="The test", log=log, limits=limits, on_line=hear)
    return lines


async def test_lines_are_heard_and_errors_are_kept(tmp_path: Path) -> None:
    code = "import sys; print('one'); print('two'); print('aside', file=sys.stderr)"
    assert await _python(code, tmp_path / "log") == ["one", "two"]
    assert "aside" in (tmp_path / "log").read_text()


async def test_a_failure_has_the_last_line(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="no such thing") as failed:
        await _python("raise SystemExit('no such thing')", tmp_path / "log")
    assert failed.value.code == "child_failed"


async def test_too_much_memory_is_named(tmp_path: Path) -> None:
    code = "import time; hoard = bytearray(300 * 2**20); time.sleep(60)"
    with pytest.raises(ChildFailed, match="out of memory") as failed:
        await _python(code, tmp_path / "log", Limits(100 * 2**20, 60))
    assert failed.value.code == "out_of_memory"


async def test_a_kill_by_the_system_is_taken_for_lack_of_memory(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed) as failed:
        await _python("import os; os.kill(os.getpid(), 9)", tmp_path / "log")
    assert failed.value.code == "out_of_memory"


async def test_too_much_time_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed) as failed:
        await _python("import time; time.sleep(60)", tmp_path / "log", Limits(None, 0.5))
    assert failed.value.code == "time_limit"


async def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1).pid); input()"
    started = asyncio.Event()
    pids: list[int] = []

    async def hear(line: str) -> None:
        pids.append(int(line))
        started.set()

    command = [sys.executable, "-c", f"{code.replace('input()', 'import time; time.sleep(60)', 0)}"]
    command[2] = code.replace("; input()", "; import time; time.sleep(60)")
    run = run_child(command, title="The test", log=tmp_path / "log", limits=FREE, on_line=hear)
    task = asyncio.create_task(run)
    await asyncio.wait_for(started.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_until(lambda: not psutil.pid_exists(pids[0]), 60, "the grandchild is gone")


def test_a_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    grandchild = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import asyncio, pathlib, sys\n"
        "from tunesmith_finetune.processes import Limits, run_child\n"
        f"command = [sys.executable, '-c', {grandchild!r}]\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "asyncio.run(run_child(command, title='t', log=log, limits=Limits(None, 60)))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    wait_until(lambda: pid_file.exists() and pid_file.read_text(), 120, "the grandchild runs")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not psutil.pid_exists(int(pid_file.read_text())), 60, "the grandchild is gone")
