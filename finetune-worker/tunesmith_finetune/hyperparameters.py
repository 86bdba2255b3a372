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

GGUF_TYPES: Final = {
    "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_K": 17, "Q5_1": 9, "Q5_0": 8,
    "Q4_K_M": 15, "Q4_K_S": 14, "Q4_K": 15, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25, "IQ4_XS": 30, "MXFP4_MOE": 38,
    "Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "Q3_K": 12, "IQ3_M": 27, "IQ3_S": 26, "IQ3_XS": 22, "IQ3_XXS": 23,
    "Q2_K": 10, "Q2_K_S": 21, "IQ2_M": 29, "IQ2_S": 28, "IQ2_XS": 20, "IQ2_XXS": 19, "TQ2_0": 37, "TQ1_0": 36,
    "IQ1_M": 31, "IQ1_S": 24, "Q1_0": 40,
}  # fmt: skip
"""What llama-quantize writes: each type, and its number in a file (`general.file_type`). A test holds this against the
tool's own list, from which Q2_0 is missing, since the gguf package cannot read it back.
"""

NEEDS_IMATRIX: Final = frozenset(
    ("Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S")
)
"""The types that llama-quantize refuses to write without an importance matrix."""

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
PACK_LENGTH = 1024
"""Tokens that rows are packed to: enough to fill, and few enough that attention stays the smaller part of the work."""
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
    gguf_type: str | list[str] | None
    """The type, or types, of the merged model; None when the adapter is served on the base as it is."""
    imatrix: bool
    merge: bool
    promote: str
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
    types = [] if wanted.gguf_type == "auto" else gguf_types(wanted.gguf_type)
    unknown = ", ".join(name for name in types if name not in GGUF_TYPES)
    blind = ", ".join(name for name in types if name in NEEDS_IMATRIX and wanted.imatrix is not True)
    known = ", ".join(GGUF_TYPES)
    yield "packing", method != "supervised" and wanted.packing is True, "Only supervised rows can be packed."
    yield "gguf_type", bool(unknown), f"There is no GGUF type '{unknown}'. Choose of {known}."
    yield "gguf_type", bool(blind), f"{blind} cannot be written without an importance matrix: set imatrix=true."
    no_file = wanted.merge is False and body.push is not None and body.push.content == "gguf"
    yield "merge", no_file, "With merge=false there is no model file to push; push the adapter."
    yield "imatrix", wanted.merge is False and wanted.imatrix is True, "With merge=false nothing is quantised."
    unmerged = wanted.merge is False and bool(types)
    yield "gguf_type", unmerged, "gguf_type is that of a merged model; with merge=false the base keeps its own."
    yield "tuning", full and wanted.quantization in ("nf4", "int8"), "A quantised base can learn an adapter only."
    yield "tuning", full and wanted.merge is False, "With tuning=full there is no adapter that could stay unmerged."
    reference = full and method in NEEDS_REFERENCE
    yield "tuning", reference, f"{method} needs the base beside what is learnt; choose tuning=lora, or the method orpo."
    yield "batch_size", method == "kto" and wanted.batch_size == 1, "kto compares the rows of a batch: 2 at least."
    alone = body.validation_file is None and wanted.early_stopping_patience not in (0, "auto")
    yield "early_stopping_patience", alone, "Training ends early by the loss on a validation_file; name one."


def choose(
    wanted: Hyperparameters, method: str, rows: int, longest: int, context_length: int | None, liked: float = 0.5
) -> Chosen:
    """Return a value for each hyperparameter of training with `method` on `rows` rows, the longest of `longest` tokens.

    `context_length` is the base model's, in tokens, if it is known yet; `liked` the share of rated answers that people
    liked. Raises `BadRequest` when `max_length` is above the context.
    """
    if context_length is not None and isinstance(wanted.max_length, int) and wanted.max_length > context_length:
        raise BadRequest(
            f"max_length is {wanted.max_length} and the base model reads {context_length} tokens at the most.",
            param=f"{_place(method)}.max_length",
        )
    multiplier, full = _value(wanted.learning_rate_multiplier, 1.0), wanted.tuning == "full"
    rate = LEARNING_RATES[method] * (FULL_SHARE if full else 1.0) * multiplier
    patience = _value(wanted.early_stopping_patience, 0)
    merge, packing = _value(wanted.merge, True), _value(wanted.packing, False)
    return Chosen(
        n_epochs=_value(wanted.n_epochs, max(1, min(MOST_EPOCHS, math.ceil(ROWS_SEEN / max(1, rows))))),
        batch_size=_value(wanted.batch_size, _batch_size(method, packing, rows)),
        learning_rate_multiplier=multiplier,
        learning_rate=_value(wanted.learning_rate, rate),
        scheduler=_value(wanted.scheduler, SCHEDULER),
        warmup_ratio=_value(wanted.warmup_ratio, WARMUP_RATIO),
        weight_decay=_value(wanted.weight_decay, 0.0),
        tuning=_value(wanted.tuning, "lora"),
        **_adapter(wanted, full),
        gradient_accumulation_steps=_value(wanted.gradient_accumulation_steps, 1),
        gradient_checkpointing=_value(wanted.gradient_checkpointing, longest > LONGEST_ROW // 2),
        packing=packing,
        max_length=_pack_length(wanted, longest) if packing else max_length(wanted, context_length),
        long_rows=long_rows(wanted),
        evaluations=_value(wanted.evaluations, EVALUATIONS if patience else 0),
        early_stopping_patience=patience,
        quantization="none" if full else wanted.quantization,
        gguf_type=_plain(gguf_types(_value(wanted.gguf_type, "Q4_K_M"))) if merge else None,
        imatrix=_value(wanted.imatrix, False),
        merge=merge,
        promote=_value(wanted.promote, "proven"),
        **_preference(wanted, liked),
    )


def gguf_types(wanted: str | list[str] | None) -> list[str]:
    """Return the types that a job writes, each once, as the tool spells them; none when nothing is merged."""
    names = [wanted] if isinstance(wanted, str) else wanted or []
    return list(dict.fromkeys(name.upper() for name in names))


def _pack_length(wanted: Hyperparameters, longest: int) -> int:
    """Return how many tokens rows are packed to."""
    length: int = _value(wanted.max_length, max(longest, PACK_LENGTH))
    return length


def _batch_size(method: str, packing: bool, rows: int) -> int:
    """Return how many rows a step has; where rows are packed, a pack is a batch already."""
    return 1 if packing else max(2 if method == "kto" else 1, min(8, rows // 4))


def max_length(wanted: Hyperparameters, context_length: int | None) -> int:
    """Return how many tokens a row may have."""
    length: int = _value(wanted.max_length, min(LONGEST_ROW, context_length or LONGEST_ROW))
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


def _plain(types: list[str]) -> str | list[str]:
    return types[0] if len(types) == 1 else types


def _place(method: str) -> str:
    return f"method.{method}.hyperparameters"


def _value(wanted: Any, automatic: Any) -> Any:
    return automatic if wanted == "auto" else wanted
