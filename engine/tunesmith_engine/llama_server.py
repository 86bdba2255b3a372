"""A llama-server in place of the library in the wheel: which one, its command line, and what it has to know.

Its options are those of llama.cpp's `common/arg.cpp`; what they say is what `runner.py` sets in the library.
"""

import logging
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith_engine.specification import ALIAS, ERRORS_ONLY, Specification
from tunesmith_shared.llama_cpp import BFLOAT16_SERVER, SERVER, built

_logger = logging.getLogger("tunesmith.engine.llama_server")

LIBRARY = "library"
"""What the setting says for the library in the wheel."""

_ANSWER_SECONDS = 60  # builds for a GPU look for their devices first
_NAMED_OPTIONS = 3
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_INSTEAD = "name another build's, or say library for the one in the wheel"


def command(binary: str, socket: str, specification: Specification) -> list[str]:
    """The words that start a llama-server for a specification. Its socket is one because its name ends in .sock."""
    values = {
        "--model": specification.model_path,
        "--host": socket,
        "--alias": ALIAS,
        "--parallel": specification.parallel,
        "--ctx-size": specification.whole_context,
        "--threads": specification.num_thread,
        "--threads-batch": specification.num_thread,
        "--batch-size": specification.batch_tokens,
        "--ubatch-size": specification.batch_tokens,
        "--threads-http": specification.http_threads,
        "--cache-ram": 0,
        "--fit": "off",
        "--verbosity": ERRORS_ONLY,
    }
    words = [binary, *(str(word) for pair in values.items() for word in pair), "--no-webui"]
    words.append("--context-shift" if specification.shifts else "--no-context-shift")
    if specification.gpu_layers >= 0:
        words += ["--gpu-layers", str(specification.gpu_layers)]
    if specification.embedding:
        words.append("--embedding")
    for path in specification.adapter_paths:
        words += ["--lora", _listed(path)]
    if specification.adapter_paths:  # each request says which of them are on
        words.append("--lora-init-without-apply")
    return words


@dataclass(frozen=True, slots=True)
class Servers:
    """The llama-servers that models run in, and the one for those in bfloat16 if there is one; without, the library."""

    usual: Path | None = None
    bfloat16: Path | None = None

    def of(self, specification: Specification) -> Path | None:
        """The server for a model; None when it runs in the library."""
        return (self.bfloat16 if specification.bfloat16 else None) or self.usual


def choose(setting: str, cache_dir: Path) -> Servers:
    """The llama-server of the setting, or the cache's for an empty one."""
    if setting:
        return Servers() if setting == LIBRARY else Servers(Path(setting))
    return Servers(_built(cache_dir, SERVER), _built(cache_dir, BFLOAT16_SERVER))


def _built(cache_dir: Path, name: str) -> Path | None:
    binary = built(cache_dir, name)
    try:
        return binary and find(str(binary))
    except ValueError as error:
        _logger.warning("no model runs in the %s that was built: %s", name, error)
        return None


def find(name: str) -> Path:
    """The llama-server of that path, or of that name in PATH, which knows every option that is used here.

    Raises ValueError with what is wrong with it and what to do.
    """
    path = Path(name).expanduser()
    found = shutil.which(path)
    if found is None:
        wrong = "is not executable; chmod +x it" if path.is_file() else "is no file; give the path of a llama-server"
        raise ValueError(f"{path} {wrong}, or say library for the one in the wheel")
    binary = Path(found).absolute()
    known = set(_OPTION.findall(_answer(binary, "--help")))
    if missing := [option for option in _used_options() if option not in known]:
        named = ", ".join(missing[:_NAMED_OPTIONS])
        raise ValueError(
            f"{binary} is no llama-server, or too old or too new a one: it does not know {named}; {_INSTEAD}"
        )
    return binary


def _used_options() -> list[str]:
    """Every option that `command` can say."""
    chat = Specification("", ("adapter",), False, 1, 1, 1, 1, True, gpu_layers=0)
    embedding = replace(chat, embedding=True)
    words = [*command("", "", chat), *command("", "", embedding)]
    return list(dict.fromkeys(word for word in words if word.startswith("--")))


def version(binary: Path) -> str:
    """What a llama-server says of its build, on one line. Raises ValueError when it does not run."""
    lines = (line for line in _answer(binary, "--version").splitlines() if line.startswith("version"))
    return next(lines, "version unknown")


def _answer(binary: Path, question: str) -> str:
    """All that a binary prints when it is asked for its help or version. Raises ValueError when it does not run."""
    try:
        done = subprocess.run(
            [binary, question],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except OSError as error:
        raise ValueError(f"{binary} does not run here ({error.strerror}); {_INSTEAD}") from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{binary} {question} does not end within {_ANSWER_SECONDS} s; {_INSTEAD}") from error
    text = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        last = text.rpartition("\n")[2] or f"status {done.returncode}"
        raise ValueError(f"{binary} {question} fails ({last}); {_INSTEAD}")
    return text


def _listed(path: str) -> str:
    """A path where llama.cpp expects a list with commas."""
    doubled = path.replace('"', '""')
    return f'"{doubled}"' if set(path) & {",", '"'} else path
