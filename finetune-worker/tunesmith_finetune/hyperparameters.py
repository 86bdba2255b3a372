"""Hyperparameters: what "auto" becomes, and which values are refused. Nothing here needs torch.

The automatic values were measured with SmolLM2-135M on data sets of 50 to 150 short rows: there, a LoRA of rank 16 on
all linear layers at a learning rate of 1e-3 learns a manner of speaking in about 25 steps of 8 rows.
"""

import math
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from tunesmith_shared.errors import BadRequest
from tunesmith_shared.schemas.jobs import DpoHyperparameters, Hyperparameters, JobCreate

GGUF_TYPES: Final = (
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "F16", "BF16", "F32",
)  # fmt: skip
"""The types that llama-quantize writes without an importance matrix."""

BASE_LEARNING_RATE = {"supervised": 1e-3, "dpo": 2e-4}
DPO_BETA = 0.1
ROWS_SEEN = 200
"""How many rows, repeated or not, an automatic number of epochs shows to the model."""
MOST_EPOCHS = 10
LONGEST_ROW = 2048


class Chosen(BaseModel):
    """Every hyperparameter with a value. `quantization` alone may still be "auto": the training process, which knows
    its device, settles it.
    """

    model_config = ConfigDict(frozen=True)

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    lora_rank: int
    lora_alpha: int
    lora_dropout: float
    gradient_accumulation_steps: int
    gradient_checkpointing: bool
    packing: bool
    max_length: int
    quantization: str
    gguf_type: str | None
    """The type of the merged model; None when the adapter is served on the base as it is."""
    merge: bool
    beta: float | None
    """How close preference training stays to the base model; higher is closer. None for other methods."""


def requested(body: JobCreate) -> Hyperparameters:
    """Return the hyperparameters that a request asks for; OpenAI's older place counts where the newer one says "auto".

    Raises `BadRequest` for a GGUF type that there is none of, and for what contradicts itself.
    """
    asked = body.method.dpo.hyperparameters if body.method.type == "dpo" else body.method.supervised.hyperparameters
    newer, older = asked.model_dump(), (body.hyperparameters or Hyperparameters()).model_dump()
    merged = type(asked).model_validate(
        {name: older.get(name, "auto") if newer[name] == "auto" else newer[name] for name in newer}
    )
    place = _place(body.method.type)
    if body.method.type == "dpo" and merged.packing is True:
        raise BadRequest("Pairs cannot be packed; leave 'packing' out.", param=f"{place}.packing")
    if merged.gguf_type != "auto" and merged.gguf_type.upper() not in GGUF_TYPES:
        known = ", ".join(GGUF_TYPES)
        raise BadRequest(
            f"There is no GGUF type '{merged.gguf_type}'. Choose one of {known}.", param=f"{place}.gguf_type"
        )
    if merged.merge is False and merged.gguf_type != "auto":
        raise BadRequest(
            "gguf_type is that of a merged model; with merge=false the base keeps its own. Leave one of them out.",
            param=f"{place}.gguf_type",
        )
    return merged


def choose(wanted: Hyperparameters, method: str, rows: int, longest: int, context_length: int) -> Chosen:
    """Return a value for each hyperparameter of training with `method` on `rows` rows, the longest of `longest` tokens.

    `context_length` is the base model's, in tokens. Raises `BadRequest` when `max_length` is above it.
    """
    if isinstance(wanted.max_length, int) and wanted.max_length > context_length:
        raise BadRequest(
            f"max_length is {wanted.max_length} and the base model reads {context_length} tokens at the most.",
            param=f"{_place(method)}.max_length",
        )
    multiplier = _value(wanted.learning_rate_multiplier, 1.0)
    rank = _value(wanted.lora_rank, 16)
    return Chosen(
        n_epochs=_value(wanted.n_epochs, max(1, min(MOST_EPOCHS, math.ceil(ROWS_SEEN / max(1, rows))))),
        batch_size=_value(wanted.batch_size, max(1, min(8, rows // 4))),
        learning_rate_multiplier=multiplier,
        learning_rate=_value(wanted.learning_rate, BASE_LEARNING_RATE[method] * multiplier),
        lora_rank=rank,
        lora_alpha=_value(wanted.lora_alpha, 2 * rank),
        lora_dropout=_value(wanted.lora_dropout, 0.0),
        gradient_accumulation_steps=_value(wanted.gradient_accumulation_steps, 1),
        gradient_checkpointing=_value(wanted.gradient_checkpointing, longest > LONGEST_ROW // 2),
        packing=_value(wanted.packing, False),
        max_length=max_length(wanted, context_length),
        quantization=wanted.quantization,
        gguf_type=_value(wanted.gguf_type, "Q4_K_M").upper() if _value(wanted.merge, True) else None,
        merge=_value(wanted.merge, True),
        beta=_value(wanted.beta, DPO_BETA) if isinstance(wanted, DpoHyperparameters) else None,
    )


def max_length(wanted: Hyperparameters, context_length: int) -> int:
    """Return how many tokens a row may have."""
    length: int = _value(wanted.max_length, min(LONGEST_ROW, context_length))
    return length


def _place(method: str) -> str:
    return f"method.{method}.hyperparameters"


def _value(wanted: Any, automatic: Any) -> Any:
    return automatic if wanted == "auto" else wanted
