"""From an adapter to a quantised model file: convert, merge, quantise, and read back what came out.

Every function writes its output beside it first and renames it, so a file under its own name is whole.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_finetune.conv1d import is_transposed, write_transposed
from tunesmith_finetune.hyperparameters import GGUF_TYPES
from tunesmith_finetune.llama_cpp import LlamaCpp
from tunesmith_finetune.processes import Limits, run_child
from tunesmith_shared.errors import StorageFull, TunesmithError
from tunesmith_shared.store import read_gguf_header

SPARE_BYTES = 16 * 2**20
"""What must stay free on the disk beside what a step writes."""

IMATRIX_BYTES = 64 * 2**20
"""More than an importance matrix of a model of some ten billion weights takes."""


class ExportFailed(TunesmithError):
    """A tool said it succeeded and its output is not what it should be."""

    default_code = "export_failed"


@dataclass(frozen=True)
class Exporter:
    """Runs llama.cpp's tools for one job; what they print goes to `log`."""

    tools: LlamaCpp
    limits: Limits
    log: Path

    async def base_to_f16(self, base_folder: Path, output: Path) -> None:
        """Write the half-precision GGUF of a folder with a whole model."""
        await asyncio.to_thread(require_space_like, output.parent, base_folder)
        arguments = [str(base_folder), "--outtype", "f16"]
        await self._script("convert_hf_to_gguf.py", arguments, output, "Converting the base model to GGUF")

    async def adapter_to_gguf(self, adapter_folder: Path, base_folder: Path, output: Path) -> None:
        """Write a PEFT adapter as a GGUF adapter, in float32."""
        await asyncio.to_thread(require_space_like, output.parent, adapter_folder)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
            if await asyncio.to_thread(is_transposed, adapter_folder):
                as_converted = Path(scratch) / "adapter"
                await asyncio.to_thread(write_transposed, adapter_folder, as_converted)
                adapter_folder = as_converted
            arguments = ["--base", str(base_folder), "--outtype", "f32", str(adapter_folder)]
            await self._script("convert_lora_to_gguf.py", arguments, output, "Converting the adapter to GGUF")

    async def merge(self, base_gguf: Path, adapter_gguf: Path, output: Path) -> None:
        """Write the half-precision GGUF of base and adapter together."""
        await asyncio.to_thread(require_space_like, output.parent, base_gguf)
        with_draft = ["-m", str(base_gguf), "--lora", str(adapter_gguf), "-o", str(_draft(output))]
        command = [str(self.tools.tool("llama-export-lora")), *with_draft]
        await self._run(command, output, "Merging the adapter into the base")

    async def imatrix(self, merged: Path, text: Path, output: Path, context: int) -> None:
        """Write how much each weight of `merged` matters for `text`, read in pieces of `context` tokens."""
        await asyncio.to_thread(require_space, output.parent, IMATRIX_BYTES)
        command = [str(self.tools.tool("llama-imatrix")), "-m", str(merged), "-f", str(text), "-o", str(_draft(output))]
        command += ["-c", str(context), "-b", str(context), "-ub", str(context), "--no-ppl", "--parse-special"]
        await self._run(command, output, "Computing the importance matrix")

    async def quantise(self, merged: Path, output: Path, gguf_type: str, imatrix: Path | None) -> None:
        """Write `merged` as `gguf_type`; with an importance matrix, so that what matters most loses least."""
        await asyncio.to_thread(require_space, output.parent, quantised_bytes(merged, gguf_type))
        matrix = ["--imatrix", str(imatrix)] if imatrix is not None else []
        command = [str(self.tools.tool("llama-quantize")), *matrix, str(merged), str(_draft(output)), gguf_type]
        await self._run(command, output, f"Quantising to {gguf_type}")

    async def _script(self, name: str, arguments: Sequence[str], output: Path, title: str) -> None:
        command = [sys.executable, str(self.tools.script(name)), "--outfile", str(_draft(output)), *arguments]
        await self._run(command, output, title)

    async def _run(self, command: list[str], output: Path, title: str) -> None:
        draft = _draft(output)
        try:
            await run_child(command, title=title, log=self.log, limits=self.limits)
            await asyncio.to_thread(_finish, draft, output)
        except FileNotFoundError as error:
            raise ExportFailed(f"{title} wrote no file; {self.log} has what it printed.") from error
        finally:
            draft.unlink(missing_ok=True)


@dataclass(frozen=True)
class ModelFile:
    """What a GGUF says it is, read from the file: its type, its size, and how many tensors have which type."""

    gguf_type: str
    bytes: int
    tensor_types: dict[str, int]


def read_model_file(path: Path, wanted: str) -> ModelFile:
    """Return what `path` really is. Raises `ExportFailed` when it is not of the type `wanted`.

    llama-quantize gives tensors whose rows do not divide into blocks of 256 a type with smaller blocks; that is why the
    types of the tensors are read too.
    """
    header = read_gguf_header(path)
    types = Counter(tensor.type.name for tensor in header.tensors)
    if header.metadata.get("general.file_type") != GGUF_TYPES[wanted]:
        raise ExportFailed(f"The file was to be {wanted} and is {header.file_type}.")
    return ModelFile(header.file_type, path.stat().st_size, dict(types.most_common()))


def read_adapter_file(path: Path) -> ModelFile:
    """Return what the adapter in `path` is. Raises `ExportFailed` when it is none.

    Its type is that of most of its tensors.
    """
    header = read_gguf_header(path)
    if not header.is_adapter:
        raise ExportFailed("The file was to be an adapter and is none.")
    types = Counter(tensor.type.name for tensor in header.tensors)
    return ModelFile(types.most_common(1)[0][0], path.stat().st_size, dict(types.most_common()))


def require_space(folder: Path, output_bytes: int) -> None:
    """Raise `StorageFull` when `folder` has no room for a file of `output_bytes` and some spare."""
    needed = output_bytes + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageFull(f"{needed / 2**20:.0f} MiB are needed in {folder} and {free / 2**20:.0f} MiB are free.")


def require_space_like(folder: Path, source: Path) -> None:
    """Raise `StorageFull` when `folder` has no room for what is as large as the file, or the folder's weights."""
    weights = source.glob("*.safetensors") if source.is_dir() else [source]
    require_space(folder, sum(file.stat().st_size for file in weights))


def quantised_bytes(merged: Path, gguf_type: str) -> int:
    """Return what a half-precision file takes at the most when it is written as `gguf_type`."""
    size = merged.stat().st_size
    return 2 * size if gguf_type == "F32" else size


def _draft(output: Path) -> Path:
    return output.with_name(f".{output.name}.{os.getpid()}.part")


def _finish(draft: Path, output: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(output)
