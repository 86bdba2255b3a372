"""What the platform is compared with, built once outside the checkout from the one pin of llama.cpp.

llama.cpp's own server and `llama-batched-bench` are built from the sources that llama-cpp-python's source distribution
carries, and llama-cpp-python's server from the same distribution, both without instructions that the wheel of the
engine's library does not use either (`GGML_NATIVE=OFF`). The first run takes twenty minutes or so on two cores.
"""

import os
import subprocess
import sys
from pathlib import Path

from tunesmith_finetune.llama_cpp import PIP_OPTIONS, pinned_version, unpack_llama_cpp

_ROOT = Path(__file__).resolve().parents[2]
_PIN = _ROOT / "requirements" / "llama-cpp.txt"
_SERVER_PINS = Path(__file__).with_name("requirements.txt")
_VERSION = pinned_version(_PIN)
_TARGETS = ("llama-server", "llama-batched-bench")
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
)  # fmt: skip


def _folder(name: str) -> Path:
    cache = Path(os.environ.get("TUNESMITH_CACHE_DIR", Path.home() / ".cache" / "tunesmith"))
    return cache / "benchmarks" / f"{name}-{_VERSION}"


def llama_cpp() -> Path:
    """Return the folder of llama.cpp's server and bench; the first call builds them."""
    folder = _folder("llama.cpp")
    binaries = folder / "bin"
    if not all((binaries / name).exists() for name in _TARGETS):
        print(f"building llama.cpp's server in {folder}", file=sys.stderr)
        source = folder / "source"
        _fetch(folder, source)
        _run("cmake", "-S", str(source), "-B", str(folder), *_OPTIONS)
        _run("cmake", "--build", str(folder), "-j", str(os.cpu_count() or 1), "--target", *_TARGETS)
    return binaries


def llama_cpp_python() -> Path:
    """Return the Python of an environment that has llama-cpp-python's server; the first call makes it."""
    folder = _folder("llama-cpp-python")
    python, whole = folder / "bin" / "python", folder / "installed.txt"
    if not whole.exists() or whole.read_bytes() != _SERVER_PINS.read_bytes():
        print(f"building llama-cpp-python in {folder}", file=sys.stderr)
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        options = "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF"
        install = ("-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(_SERVER_PINS))
        _run(str(python), *install, CMAKE_ARGS=options)
        whole.write_bytes(_SERVER_PINS.read_bytes())
    return python


def _fetch(folder: Path, source: Path) -> None:
    """Put llama.cpp's sources into `source`."""
    if (source / "CMakeLists.txt").exists():
        return
    _run(sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(folder / "sdist"), "-r", str(_PIN))
    [archive] = (folder / "sdist").glob("*.tar.gz")
    unpack_llama_cpp(archive, source)


def _run(*command: str, **environment: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
