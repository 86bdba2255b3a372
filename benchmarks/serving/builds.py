"""What the platform is compared with, built once outside the checkout from the one pin of llama.cpp.

llama.cpp's own server is the very one that the worker builds for the engine, `llama-batched-bench` is built like it,
and llama-cpp-python's server comes from the same distribution. The first run takes twenty minutes or so on two cores.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tunesmith_finetune.llama_cpp import BUILD_OPTIONS, LlamaCpp, Toolbox, pinned_version
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_shared.llama_cpp import BFLOAT16_SERVER, EVEN, SERVER, computes_bfloat16, native
from tunesmith_shared.store import read_gguf_header

_SERVER_PINS = Path(__file__).with_name("requirements.txt")
_BUILD_SECONDS = 2 * 3600.0


def llama_server(model: Path) -> Path:
    """Return llama.cpp's server as the worker builds it for the engine to run `model` in; the first call builds it."""
    return _llama_cpp().tool(BFLOAT16_SERVER if _runs_evenly(model) else SERVER)


def batched_bench(model: Path) -> Path:
    """Return `llama-batched-bench`, built like the server of `model`; the first call does it."""
    tools, even = _llama_cpp(), _runs_evenly(model)
    folder = tools.folder.parent / "benchmarks" / (tools.folder.name + ("-even" if even else ""))
    binary = folder / "bin" / "llama-batched-bench"
    if not binary.exists():
        print(f"building {binary.name} in {folder}", file=sys.stderr)
        chosen = {**BUILD_OPTIONS, **native(), **(EVEN if even else {})}
        options = (f"-D{name}={value}" for name, value in chosen.items())
        _run("cmake", "-S", str(tools.folder / "source"), "-B", str(folder), *options)
        _run("cmake", "--build", str(folder), "-j", str(os.cpu_count() or 1), "--target", binary.name)
    return binary


def _runs_evenly(model: Path) -> bool:
    return computes_bfloat16(native()) and read_gguf_header(model).file_type == "BF16"


def llama_cpp_python() -> Path:
    """Return the Python of an environment that has llama-cpp-python's server; the first call makes it."""
    settings = WorkerSettings()
    folder = settings.cache_dir / "benchmarks" / f"llama-cpp-python-{pinned_version(settings.llama_cpp_requirements)}"
    python, whole = folder / "bin" / "python", folder / "installed.txt"
    if not whole.exists() or whole.read_bytes() != _SERVER_PINS.read_bytes():
        print(f"building llama-cpp-python in {folder}", file=sys.stderr)
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        options = "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF"
        install = ("-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(_SERVER_PINS))
        _run(str(python), *install, CMAKE_ARGS=options)
        whole.write_bytes(_SERVER_PINS.read_bytes())
    return python


def _llama_cpp() -> LlamaCpp:
    settings = WorkerSettings()
    toolbox = Toolbox(settings.cache_dir, settings.llama_cpp_requirements, Limits(None, _BUILD_SECONDS))
    return asyncio.run(toolbox.get())


def _run(*command: str, **environment: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
