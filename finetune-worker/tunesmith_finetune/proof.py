"""What a finished model must show before it gets its name, and what was found.

Measured with SmolLM2-135M after a short training: base 5.4465, base and adapter 3.4444, the
merged file 3.4458 (0.04% from it), its Q4_K_M 3.4762.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunesmith_finetune.measures import ADAPTER, BASE, MERGED
from tunesmith_shared.errors import TunesmithError

LARGEST_LOGIT = 32.0
"""About the largest number that a chat model gives a token before the softmax."""

SPACING = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The distance from 1 to the next number, by number format: what rounding changes a number by, as a share of it."""

FILE_FORMAT = "float16"
"""What the numbers of a merged file are rounded to."""

WORSE_TOLERANCE = 0.005
"""How far the loss of what is served may be above the base's, as a share of it."""


UNPROVEN = ("prompt_differs", "merge_differs", "worse_than_base")
"""The checks, by the code of the error with which a job ends that fails them."""


class NotProven(TunesmithError):
    """The finished model failed a check; it gets no name, and the report says what was found."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `passed` is None when it could not be looked at; `detail` says why then."""

    code: str
    passed: bool | None
    detail: str


def judge(
    losses: Mapping[str, Any], served: Sequence[str], parity: Mapping[str, Any], number_format: str
) -> list[Check]:
    """Return the checks of a model.

    `losses` are by subject, measured in `number_format`; `served` names the subjects that would be registered.
    """
    checks = [_parity(parity)]
    if MERGED in losses:
        checks.append(_merge(losses, number_format))
    return [*checks, *(_better(losses, name) for name in served)]


def rounding(loss: float, number_format: str) -> float:
    """Return how far rounding alone may take a merged file's loss from `loss`, measured in `number_format`.

    Rounding moves a logit by up to the spacing of the numbers at its size, and a token's loss by that, times the
    probability that the token does not have (the slope of the loss), which is the loss itself where it is small.
    """
    return LARGEST_LOGIT * max(SPACING[number_format], SPACING[FILE_FORMAT]) * min(1.0, loss)


def require_proof(checks: Sequence[Check], promote: str) -> None:
    """Raise `NotProven` with the first failed check, unless `promote` is "always"."""
    failed = [check for check in checks if check.passed is False]
    if failed and promote != "always":
        raise NotProven(
            f"The model is finished and was not registered: {'; '.join(check.detail for check in failed)}. The report "
            "among the result files has all figures. To have it all the same, send the job with promote=always.",
            code=failed[0].code,
        )


def as_data(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return the checks as JSON."""
    return [asdict(check) for check in checks]


def _parity(parity: Mapping[str, Any]) -> Check:
    if not parity["compared"]:
        return Check("prompt_differs", None, str(parity["reason"]))
    if parity["different"]:
        first = parity["different"][0]
        detail = f"serving reads {len(parity['different'])} of {parity['compared']} prompts otherwise than training did"
        return Check("prompt_differs", False, f"{detail}, the first one from token {first['at']} on")
    return Check("prompt_differs", True, f"{parity['compared']} prompts have the same tokens in training and serving")


def _merge(losses: Mapping[str, Any], number_format: str) -> Check:
    unmeasured = _unmeasured(losses, ADAPTER, MERGED)
    if unmeasured:
        return Check("merge_differs", None, unmeasured)
    adapter, merged = losses[ADAPTER]["loss"], losses[MERGED]["loss"]
    allowed = rounding(adapter, number_format)
    detail = f"the merged file's loss is {merged:.4f}, and {adapter:.4f} that of base and adapter"
    return Check("merge_differs", abs(merged - adapter) <= allowed, f"{detail} (rounding explains {allowed:.4f})")


def _better(losses: Mapping[str, Any], name: str) -> Check:
    unmeasured = _unmeasured(losses, BASE, name)
    if unmeasured:
        return Check("worse_than_base", None, unmeasured)
    base, served = losses[BASE]["loss"], losses[name]["loss"]
    detail = f"the loss of {name} is {served:.4f}, and {base:.4f} that of the base model"
    return Check("worse_than_base", served <= base * (1 + WORSE_TOLERANCE), detail)


def _unmeasured(losses: Mapping[str, Any], *names: str) -> str:
    reasons = (f"{name} was not measured ({losses.get(name, {}).get('error', 'no rows')})" for name in names)
    return "; ".join(reason for name, reason in zip(names, reasons, strict=True) if "loss" not in losses.get(name, {}))
