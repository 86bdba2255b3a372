"""Hyperparameters: what "auto" becomes, and which values are refused. Nothing here needs torch.

The automatic values were measured with SmolLM2-135M on data sets of 50 to 150 short rows: there, a LoRA of rank 16 on
all linear layers at a learning rate of 1e-3 learns a manner of speaking in about 25 steps of 8 rows.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from tunesmith_shared.errors import BadRequest
from tunesmith_shared.schemas.jobs import Hyperparameters, JobCreate, KtoHyperparameters, PreferenceHyperparameters

GGUF_TYPES: Final = (
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "F16", "BF16", "F32",
)  # fmt: skip
"""The types that llama-quantize writes without an importance matrix."""

LEARNING_RATES = {"supervised": 1e-3, "dpo": 2e-4, "orpo": 3e-4, "kto": 2e-4}
FULL_SHARE = 0.05
"""How much lower the automatic learning rate is where all weights are learnt: as many of them follow every step."""
SCHEDULER = "cosine"
WARMUP_RATIO = 0.1
BETA = 0.1
ROWS_SEEN = 200
"""How many rows, repeated or not, an automatic number of epochs shows to the model."""
MOST_EPOCHS = 10
LONGEST_ROW = 2048
EVALUATIONS = 8
"""How often a training that may end early looks whether it should."""
NEEDS_REFERENCE = ("dpo", "kto")
"""The methods that hold the model against what it was before; with an adapter, that is the model without it."""


class Chosen(BaseModel):
    """Every hyperparameter with a value. `quantization` alone may still be "auto": the training process, which knows
    its device, settles it. Those that a method does not have are None.
    """

    model_config = ConfigDict(frozen=True)

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    scheduler: str
    warmup_ratio: float
    weight_decay: float
    tuning: str
    lora_rank: int | None
    lora_alpha: int | None
    lora_dropout: float | None
    gradient_accumulation_steps: int
    gradient_checkpointing: bool
    packing: bool
    max_length: int
    long_rows: str
    evaluations: int
    early_stopping_patience: int
    quantization: str
    gguf_type: str | None
    """The type of the merged model; None when the adapter is served on the base as it is."""
    merge: bool
    beta: float | None
    """How close preference training stays to the base model; higher is closer. Of ORPO: how much the odds count."""
    desirable_weight: float | None
    undesirable_weight: float | None


def requested(body: JobCreate) -> Hyperparameters:
    """Return the hyperparameters that a request asks for; OpenAI's older place counts where the newer one says "auto".

    Raises `BadRequest` for a GGUF type that there is none of, and for what contradicts itself.
    """
    asked = body.method.chosen
    newer, older = asked.model_dump(), (body.hyperparameters or Hyperparameters()).model_dump()
    merged = type(asked).model_validate(
        {name: older.get(name, "auto") if newer[name] == "auto" else newer[name] for name in newer}
    )
    for name, refused, why in _contradictions(merged, body):
        if refused:
            raise BadRequest(why, param=f"{_place(body.method.type)}.{name}")
    return merged


def _contradictions(wanted: Hyperparameters, body: JobCreate) -> Iterator[tuple[str, bool, str]]:
    """Yield a hyperparameter, whether it cannot be as it is, and why not."""
    method, full = body.method.type, wanted.tuning == "full"
    gguf_type, known = wanted.gguf_type, ", ".join(GGUF_TYPES)
    unknown = gguf_type != "auto" and gguf_type.upper() not in GGUF_TYPES
    yield "packing", method != "supervised" and wanted.packing is True, "Only supervised rows can be packed."
    yield "gguf_type", unknown, f"There is no GGUF type '{gguf_type}'. Choose one of {known}."
    unmerged = wanted.merge is False and gguf_type != "auto"
    yield "gguf_type", unmerged, "gguf_type is that of a merged model; with merge=false the base keeps its own."
    yield "tuning", full and wanted.quantization in ("nf4", "int8"), "A quantised base can learn an adapter only."
    yield "tuning", full and wanted.merge is False, "With tuning=full there is no adapter that could stay unmerged."
    reference = full and method in NEEDS_REFERENCE
    yield "tuning", reference, f"{method} needs the base beside what is learnt; choose tuning=lora, or the method orpo."
    yield "batch_size", method == "kto" and wanted.batch_size == 1, "kto compares the rows of a batch: 2 at least."
    alone = body.validation_file is None and wanted.early_stopping_patience not in (0, "auto")
    yield "early_stopping_patience", alone, "Training ends early by the loss on a validation_file; name one."


def choose(
    wanted: Hyperparameters, method: str, rows: int, longest: int, context_length: int, liked: float = 0.5
) -> Chosen:
    """Return a value for each hyperparameter of training with `method` on `rows` rows, the longest of `longest` tokens.

    `context_length` is the base model's, in tokens; `liked` the share of rated answers that people liked. Raises
    `BadRequest` when `max_length` is above the context.
    """
    if isinstance(wanted.max_length, int) and wanted.max_length > context_length:
        raise BadRequest(
            f"max_length is {wanted.max_length} and the base model reads {context_length} tokens at the most.",
            param=f"{_place(method)}.max_length",
        )
    multiplier, full = _value(wanted.learning_rate_multiplier, 1.0), wanted.tuning == "full"
    rate = LEARNING_RATES[method] * (FULL_SHARE if full else 1.0) * multiplier
    patience = _value(wanted.early_stopping_patience, 0)
    merge = _value(wanted.merge, True)
    return Chosen(
        n_epochs=_value(wanted.n_epochs, max(1, min(MOST_EPOCHS, math.ceil(ROWS_SEEN / max(1, rows))))),
        batch_size=_value(wanted.batch_size, max(2 if method == "kto" else 1, min(8, rows // 4))),
        learning_rate_multiplier=multiplier,
        learning_rate=_value(wanted.learning_rate, rate),
        scheduler=_value(wanted.scheduler, SCHEDULER),
        warmup_ratio=_value(wanted.warmup_ratio, WARMUP_RATIO),
        weight_decay=_value(wanted.weight_decay, 0.0),
        tuning=_value(wanted.tuning, "lora"),
        **_adapter(wanted, full),
        gradient_accumulation_steps=_value(wanted.gradient_accumulation_steps, 1),
        gradient_checkpointing=_value(wanted.gradient_checkpointing, longest > LONGEST_ROW // 2),
        packing=_value(wanted.packing, False),
        max_length=max_length(wanted, context_length),
        long_rows=long_rows(wanted),
        evaluations=_value(wanted.evaluations, EVALUATIONS if patience else 0),
        early_stopping_patience=patience,
        quantization="none" if full else wanted.quantization,
        gguf_type=_value(wanted.gguf_type, "Q4_K_M").upper() if merge else None,
        merge=merge,
        **_preference(wanted, liked),
    )


def max_length(wanted: Hyperparameters, context_length: int) -> int:
    """Return how many tokens a row may have."""
    length: int = _value(wanted.max_length, min(LONGEST_ROW, context_length))
    return length


def long_rows(wanted: Hyperparameters) -> str:
    """Return what becomes of rows that are longer."""
    chosen: str = _value(wanted.long_rows, "refuse")
    return chosen


def _adapter(wanted: Hyperparameters, full: bool) -> dict[str, Any]:
    if full:
        return dict.fromkeys(("lora_rank", "lora_alpha", "lora_dropout"))
    rank = _value(wanted.lora_rank, 16)
    return {
        "lora_rank": rank,
        "lora_alpha": _value(wanted.lora_alpha, 2 * rank),
        "lora_dropout": _value(wanted.lora_dropout, 0.0),
    }


def _preference(wanted: Hyperparameters, liked: float) -> dict[str, float | None]:
    """Return what preference training has. What is rarer among rated answers counts more, so that both sides weigh the
    same (arXiv 2402.01306, section 4.2).
    """
    beta = _value(wanted.beta, BETA) if isinstance(wanted, PreferenceHyperparameters) else None
    weights: dict[str, float | None] = {"desirable_weight": None, "undesirable_weight": None}
    if isinstance(wanted, KtoHyperparameters):
        share = min(max(liked, 0.01), 0.99)
        weights["desirable_weight"] = _value(wanted.desirable_weight, round(max(1.0, (1 - share) / share), 3))
        weights["undesirable_weight"] = _value(wanted.undesirable_weight, round(max(1.0, share / (1 - share)), 3))
    return {"beta": beta, **weights}


def _place(method: str) -> str:
    return f"method.{method}.hyperparameters"


def _value(wanted: Any, automatic: Any) -> Any:
    return automatic if wanted == "auto" else wanted
