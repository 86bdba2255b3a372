"""Hyperparameters: what "auto" becomes, and which values are refused. Nothing here needs torch.

The automatic values were measured with SmolLM2-135M on data sets of 50 to 150 short rows: there, a LoRA of rank 16 on
all linear layers at a learning rate of 1e-3 learns a manner of speaking in about 25 steps of 8 rows.
"""

import math
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from tunesmith_shared.errors import BadRequest, Unsupported
from tunesmith_shared.schemas.jobs import Hyperparameters, JobCreate

GGUF_TYPES: Final = (
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "F16", "BF16", "F32",
)  # fmt: skip
"""The types that llama-quantize writes without an importance matrix."""

BASE_LEARNING_RATE = 1e-3
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
    gguf_type: str
    merge: bool


def requested(body: JobCreate) -> Hyperparameters:
    """Return the hyperparameters that a request asks for; OpenAI's older place counts where the newer one says "auto".

    Raises `Unsupported` for what is not offered, and `BadRequest` for a GGUF type that there is none of.
    """
    if body.method.type != "supervised":
        raise Unsupported("Only the method 'supervised' is offered so far.", param="method.type", code="unsupported")
    newer = body.method.supervised.hyperparameters.model_dump()
    older = (body.hyperparameters or Hyperparameters()).model_dump()
    merged = Hyperparameters.model_validate(
        {name: older[name] if newer[name] == "auto" else newer[name] for name in newer}
    )
    place = "method.supervised.hyperparameters"
    if merged.gguf_type != "auto" and merged.gguf_type.upper() not in GGUF_TYPES:
        known = ", ".join(GGUF_TYPES)
        raise BadRequest(
            f"There is no GGUF type '{merged.gguf_type}'. Choose one of {known}.", param=f"{place}.gguf_type"
        )
    if merged.merge is False:
        raise Unsupported("Adapters are always merged so far; leave 'merge' out.", param=f"{place}.merge")
    return merged


def choose(wanted: Hyperparameters, rows: int, longest: int, context_length: int) -> Chosen:
    """Return a value for each hyperparameter, for `rows` rows of which the longest has `longest` tokens.

    `context_length` is the base model's, in tokens. Raises `BadRequest` when `max_length` is above it.
    """
    if isinstance(wanted.max_length, int) and wanted.max_length > context_length:
        raise BadRequest(
            f"max_length is {wanted.max_length} and the base model reads {context_length} tokens at the most.",
            param="method.supervised.hyperparameters.max_length",
        )
    multiplier = _value(wanted.learning_rate_multiplier, 1.0)
    rank = _value(wanted.lora_rank, 16)
    return Chosen(
        n_epochs=_value(wanted.n_epochs, max(1, min(MOST_EPOCHS, math.ceil(ROWS_SEEN / max(1, rows))))),
        batch_size=_value(wanted.batch_size, max(1, min(8, rows // 4))),
        learning_rate_multiplier=multiplier,
        learning_rate=_value(wanted.learning_rate, BASE_LEARNING_RATE * multiplier),
        lora_rank=rank,
        lora_alpha=_value(wanted.lora_alpha, 2 * rank),
        lora_dropout=_value(wanted.lora_dropout, 0.0),
        gradient_accumulation_steps=_value(wanted.gradient_accumulation_steps, 1),
        gradient_checkpointing=_value(wanted.gradient_checkpointing, longest > LONGEST_ROW // 2),
        packing=_value(wanted.packing, False),
        max_length=max_length(wanted, context_length),
        quantization=wanted.quantization,
        gguf_type=_value(wanted.gguf_type, "Q4_K_M").upper(),
        merge=_value(wanted.merge, True),
    )


def max_length(wanted: Hyperparameters, context_length: int) -> int:
    """Return how many tokens a row may have."""
    length: int = _value(wanted.max_length, min(LONGEST_ROW, context_length))
    return length


def _value(wanted: Any, automatic: Any) -> Any:
    return automatic if wanted == "auto" else wanted
