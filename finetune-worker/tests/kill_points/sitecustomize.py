"""Kills a worker with its processes, or fills a disk, at a named moment; imported where a test puts it on the path.

The file that KILL_FILE names holds the moment, and is removed when it has come: `module:function:before` (or `after`),
with `#3` at its end for the third time. A file `fill` beside it names the folder whose disk is
filled then instead. The file that CALLS_FILE names gets a line for each child process that ended.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

MOMENTS = {
    "tunesmith_finetune.progress": ("Progress.on_log",),
    "tunesmith_finetune.checkpoints": ("mark_whole",),
    "tunesmith_finetune.steps.training": ("_complete_last_checkpoint",),
    "tunesmith_finetune.export": ("_finish", "Exporter.merge", "Exporter.quantise"),
    "tunesmith_finetune.publish": ("Publisher.ask",),
    "tunesmith_finetune.repository": ("JobRepository.add_result_files",),
    "tunesmith_finetune.model_repository": ("ModelRepository.own_model",),
    "tunesmith_finetune.processes": ("run_child",),
    "tunesmith_shared.store.models": ("ModelStore.write_manifest",),
}


_seen: Counter[str] = Counter()


def kill_if(moment: str) -> None:
    """End the worker and every process of it when this is the moment, for the time that it is to be."""
    file = Path(os.environ["KILL_FILE"])
    wanted = file.read_text() if file.exists() else ""
    named, _, times = wanted.partition("#")
    if named != moment:
        return
    _seen[wanted] += 1
    if _seen[wanted] < int(times or 1):
        return
    file.unlink()
    if (folder := file.with_name("fill")).exists():
        fill(Path(folder.read_text()))
        return
    family = [psutil.Process(), *psutil.Process().parents()]
    worker = next(process for process in family if process.cmdline()[-1:] == ["tunesmith_finetune"])
    for process in [worker, *worker.children(recursive=True)]:
        if process.pid != os.getpid():
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def fill(folder: Path) -> None:
    """Leave no room on the disk of `folder`."""
    with (folder / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free)


def note(title: str) -> None:
    """Write down that a child process ended well."""
    with Path(os.environ["CALLS_FILE"]).open("a") as file:
        print(title, file=file)


def watched(moment: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with a look at the moment before and after it."""

    @functools.wraps(function)
    async def later(*arguments: Any, **named: Any) -> Any:
        kill_if(f"{moment}:before")
        result = await function(*arguments, **named)
        if "title" in named:
            note(named["title"])
        kill_if(f"{moment}:after")
        return result

    @functools.wraps(function)
    def now(*arguments: Any, **named: Any) -> Any:
        kill_if(f"{moment}:before")
        result = function(*arguments, **named)
        kill_if(f"{moment}:after")
        return result

    return later if inspect.iscoroutinefunction(function) else now


class Finder(importlib.abc.MetaPathFinder):
    """Puts `watched` around the functions of a module as soon as it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec that others find, with a loader that does so."""
        if name not in MOMENTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_watch(module: ModuleType) -> None:
            execute(module)
            for function in MOMENTS[name]:
                holder, _, attribute = function.rpartition(".")
                place = getattr(module, holder) if holder else module
                setattr(place, attribute, watched(f"{name}:{function}", getattr(place, attribute)))

        spec.loader.exec_module = execute_and_watch  # type: ignore[method-assign]
        return spec


if "KILL_FILE" in os.environ:
    sys.meta_path.insert(0, Finder())
