"""The one place that chooses where a training runs and in which numbers. Imported by training processes alone."""

from dataclasses import dataclass
from typing import Literal

import torch
from transformers import BitsAndBytesConfig
from transformers.utils.import_utils import is_flash_attn_2_available, is_liger_kernel_available

Quantization = Literal["nf4", "int8", "none"]


@dataclass(frozen=True)
class Device:
    """Where to train. `dtype` is that of unquantised weights; `autocast_bf16`: products are computed in bfloat16."""

    kind: Literal["cuda", "cpu"]
    dtype: torch.dtype
    autocast_bf16: bool
    quantization: Quantization


def choose_device(wanted: str) -> Device:
    """Return the best device there is, with the quantisation `wanted` ("auto": NF4 on CUDA, none on a CPU).

    On a CPU the adapter and the base stay in float32: four-bit products are several times slower there. Where the CPU
    multiplies bfloat16 in hardware, products of float32 weights are computed so, which halves a step's time.
    """
    if torch.cuda.is_available():
        return Device("cuda", torch.bfloat16, True, _quantization(wanted, "nf4"))
    return Device("cpu", torch.float32, _has_fast_bfloat16(), _quantization(wanted, "none"))


def quantization_config(device: Device) -> BitsAndBytesConfig | None:
    """Return how the frozen base is quantised while it is loaded: NF4 as in QLoRA (arXiv 2305.14314), int8, or not."""
    compute = torch.bfloat16 if device.autocast_bf16 else torch.float32
    if device.quantization == "nf4":
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
    if device.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return None


def attention(device: Device) -> str:
    """Return the implementation of attention: FlashAttention where it is installed for a GPU, else PyTorch's own."""
    return "flash_attention_2" if device.kind == "cuda" and is_flash_attn_2_available() else "sdpa"


def has_liger(device: Device) -> bool:
    """Whether Liger's kernels (norms, rotary positions, losses in one pass) are installed and run here."""
    return device.kind == "cuda" and is_liger_kernel_available()


def _quantization(wanted: str, automatic: Quantization) -> Quantization:
    known: dict[str, Quantization] = {"nf4": "nf4", "int8": "int8", "none": "none"}
    return known.get(wanted, automatic)


def _has_fast_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001 - torch has no public question for it
