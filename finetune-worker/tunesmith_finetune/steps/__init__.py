"""The steps of a fine-tuning job, in order. Each may be run again after a kill: what is finished is not done twice."""

from collections.abc import Awaitable, Callable

from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.steps.conversion import convert, merge, quantise
from tunesmith_finetune.steps.dataset import prepare, validate
from tunesmith_finetune.steps.finish import publish, report
from tunesmith_finetune.steps.training import train
from tunesmith_finetune.steps.verification import verify
from tunesmith_shared.tables import Job

Step = Callable[[Pipeline, Job], Awaitable[None]]

STEPS: dict[str, Step] = {
    "validate": validate,
    "prepare": prepare,
    "train": train,
    "convert": convert,
    "merge": merge,
    "quantise": quantise,
    "verify": verify,
    "publish": publish,
    "report": report,
}
