"""Where llama.cpp's own programs are kept, and for which processor they are built: the worker builds, the engine looks.

A build is the folder `<cache_dir>/llama.cpp-<version>-<processor>` with `bin/` in it, so that a cache which several
machines share has the builds of all of them.
"""

import platform
from collections.abc import Mapping
from pathlib import Path

from tunesmith_shared.processor import CPUINFO, flags

SERVER = "llama-server"
BFLOAT16_SERVER = "llama-server-bfloat16"
"""The server for models in bfloat16, built with EVEN, so that an answer is the same alone and beside others."""
QUANTIZE = "llama-quantize"

PORTABLE: Mapping[str, str] = {"GGML_NATIVE": "OFF"}
"""Options of llama.cpp's build for every processor of this machine's kind; on x86-64 those with AVX2."""

EVEN: Mapping[str, str] = {"GGML_LLAMAFILE": "OFF"}
"""Options of a build that sums up several sequences in the order in which it sums up one. Bfloat16 loses by it half of
the rate at which prompts are read, and nothing else; other types lose more (benchmarks/serving).
"""

# What an option needs, in the words of /proc/cpuinfo. AMX is left out: virtual machines announce it and do not allow
# it, which ends a program at its first such instruction. That is also why llama.cpp is not left to look for itself.
_AVX512 = {"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"}
_NEEDS = {
    "GGML_AVX_VNNI": {"avx_vnni"},
    "GGML_AVX512": _AVX512,
    "GGML_AVX512_BF16": _AVX512 | {"avx512_bf16"},
    "GGML_AVX512_VBMI": _AVX512 | {"avx512vbmi"},
    "GGML_AVX512_VNNI": _AVX512 | {"avx512_vnni"},
}


def native(machine: str = platform.machine(), cpuinfo: Path = CPUINFO) -> Mapping[str, str]:
    """Options of llama.cpp's build for the processor of this machine; the portable ones where nothing tells it."""
    if machine != "x86_64":
        return {"GGML_NATIVE": "ON"}
    has = flags(cpuinfo)
    return {**PORTABLE, **{option: "ON" for option, needed in _NEEDS.items() if needed <= has}}


def computes_bfloat16(options: Mapping[str, str]) -> bool:
    """Whether a build with these options has the processor multiply numbers in bfloat16."""
    return options.get("GGML_AVX512_BF16") == "ON"


def build_folder(cache_dir: Path, version: str, options: Mapping[str, str]) -> Path:
    """The folder of the build of that version with these options, whether it is there or not."""
    return cache_dir / f"llama.cpp-{version}-{_processor(options)}"


def built(cache_dir: Path, program: str) -> Path | None:
    """The newest of that program that was built for the processor of this machine, if there is any."""
    found = cache_dir.glob(f"llama.cpp-*-{_processor(native())}/bin/{program}")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _processor(options: Mapping[str, str]) -> str:
    """What a build is called after: `x86_64-avx512-avx512_vnni`."""
    chosen = sorted(option.removeprefix("GGML_").lower() for option, value in options.items() if value == "ON")
    return "-".join([platform.machine(), *chosen])
