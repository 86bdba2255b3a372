"""``quantize`` of ``/api/create``: a model in half or full precision, made smaller by llama.cpp's llama-quantize."""

import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tunesmith_engine.settings import EngineSettings
from tunesmith_shared.errors import BadRequest, TunesmithError, Unsupported
from tunesmith_shared.llama_cpp import QUANTIZE, built
from tunesmith_shared.store import ModelStore
from tunesmith_shared.store.blobs import storage_errors

TYPES = (
    "Q4_K_M", "Q4_K_S", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q3_K_L", "Q3_K_M",
    "Q3_K_S", "Q2_K",
)  # fmt: skip
"""What models can be quantised to; Ollama offers the first three."""

_SOURCES = ("F16", "F32", "BF16")
_TOLD_BYTES = 2000  # of what the program prints last


@dataclass(frozen=True, slots=True)
class Quantising:
    """The type that a model is to have, and the program that makes it so."""

    kind: str
    program: Path


class QuantisingFailed(TunesmithError):
    """llama-quantize did not finish; the message has what it said last."""

    status = 500
    type = "api_error"


def check_quantize(wanted: str, file_type: str) -> str:
    """Return the type in llama-quantize's spelling for a model of that type. Raises BadRequest."""
    kind = wanted.upper()
    if kind not in TYPES:
        names = ", ".join(TYPES)
        raise BadRequest(f"unsupported quantization type {wanted} - supported types are {names}", param="quantize")
    if file_type not in _SOURCES:
        raise BadRequest(
            f"quantization is only supported for F16, F32 and BF16 models, and this one is {file_type}: "
            "what it lost does not come back; start from the model in half precision",
            param="quantize",
        )
    return kind


def quantiser(settings: EngineSettings) -> Path:
    """The llama-quantize beside the llama-server of the setting, or the one in the cache. Raises Unsupported."""
    server = Path(settings.engine_llama_server)  # absolute, unless it is the word for the library, or nothing
    beside = server.parent / QUANTIZE
    program = beside if server.is_absolute() and beside.is_file() else built(settings.cache_dir, QUANTIZE)
    if program is None:
        raise Unsupported(
            "quantising needs llama.cpp's llama-quantize, which the finetune-worker builds after its first start and "
            "which is not there yet; try again later, or give a quantised GGUF",
            param="quantize",
        )
    return program


async def quantised(store: ModelStore, source: Path, quantising: Quantising) -> str:
    """Store the model file `source` in another type; give its digest.

    Raises StorageFull and QuantisingFailed; nothing is left then, nor when the caller goes away.
    """
    with storage_errors(store.blobs_dir):
        await asyncio.to_thread(_make_room, store, source)
        with tempfile.TemporaryDirectory(dir=store.incoming_dir, prefix="quantised-") as folder:
            target = Path(folder) / "model.gguf"
            await _run(quantising.program, str(source), str(target), quantising.kind, str(os.cpu_count() or 1))
            return await asyncio.to_thread(store.adopt_blob_file, target)


def _make_room(store: ModelStore, source: Path) -> None:
    store.require_room(source.stat().st_size)
    store.incoming_dir.mkdir(parents=True, exist_ok=True)


async def _run(program: Path, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        program,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        told = printed[-_TOLD_BYTES:].decode(errors="replace").strip().rpartition("\n")[2]
        raise QuantisingFailed(f"the model could not be quantised: {told or f'status {process.returncode}'}")
