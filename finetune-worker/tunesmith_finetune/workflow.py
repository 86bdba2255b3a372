"""A fine-tuning job as a DBOS workflow: the steps of `steps/`, one after the other, and one ending.

What a step finds wrong is its result and not an exception, so that a recovered workflow gives a job the same error.
A step that is interrupted (the job is cancelled, the worker stops or dies) leaves no result and is run again, or not at
all. The workflow's id is the job's.
"""

import logging

from dbos import DBOS, SetWorkflowID
from dbos import error as dbos_error

from tunesmith_finetune.failures import Failure, failure_of
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.steps import STEPS
from tunesmith_shared.durable import WORKFLOW

QUEUE = "fine-tuning"
_logger = logging.getLogger("tunesmith.workflow")


class _Bound:
    """The pipeline that workflows run with; DBOS calls functions by name, so it cannot be an argument."""

    pipeline: Pipeline | None = None


def bind(pipeline: Pipeline) -> None:
    """Let workflows run with `pipeline`; called before DBOS is launched."""
    _Bound.pipeline = pipeline
    logging.getLogger("dbos").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of DBOS's log is worth a person's time: that a cancelled workflow was cancelled is not."""
    return not (record.exc_info and isinstance(record.exc_info[1], dbos_error.DBOSAwaitedWorkflowCancelledError))


async def register_queue() -> None:
    """Declare the queue: one training at a time over all workers, and at once when there is none."""
    await DBOS.register_queue_async(QUEUE, global_concurrency=1, polling_interval_sec=0.5)


async def enqueue(job_id: str) -> None:
    """Put a job into the queue; it is no error when it is there."""
    with SetWorkflowID(job_id):
        await DBOS.enqueue_workflow_async(QUEUE, fine_tune, job_id)


async def cancel(job_id: str) -> None:
    """Stop a job's workflow: its running step is interrupted, the others never start."""
    await DBOS.cancel_workflow_async(job_id)


@DBOS.workflow(**WORKFLOW)
async def fine_tune(job_id: str) -> None:
    """Run every step of a job, until one fails."""
    for name in STEPS:
        failure = await DBOS.run_step_async({"name": name, "preemptible": True}, run_step, name, job_id)
        if failure is not None:
            await DBOS.run_step_async({"name": "fail"}, fail, job_id, failure)
            return
    await DBOS.run_step_async({"name": "succeed"}, succeed, job_id)


async def run_step(name: str, job_id: str) -> Failure | None:
    """Run one step of a job; gives what went wrong, or None."""
    pipeline = _pipeline()
    job = await pipeline.jobs.get(job_id)
    try:
        await STEPS[name](pipeline, job)
    except Exception as error:  # whatever it is, the job must end with an error that says so
        failure = failure_of(error)
        level = logging.ERROR if failure["code"] == "internal_error" else logging.WARNING
        _logger.log(
            level, "job %s failed in step %s: %s", job_id, name, failure["message"], exc_info=level == logging.ERROR
        )
        return failure
    _logger.info("job %s: %s is done", job_id, name)
    return None


async def fail(job_id: str, failure: Failure) -> None:
    """End a job as failed."""
    pipeline = _pipeline()
    await pipeline.publisher.withdraw_candidate(job_id)
    if await pipeline.jobs.end(job_id, "failed", failure):
        await pipeline.jobs.tell(
            job_id, "failed", f"The job failed: {failure['message']}", data=dict(failure), level="error"
        )


async def succeed(job_id: str) -> None:
    """End a job as succeeded."""
    pipeline = _pipeline()
    if await pipeline.jobs.end(job_id, "succeeded"):
        await pipeline.jobs.tell(job_id, "succeeded", "The job has successfully completed")


def _pipeline() -> Pipeline:
    if _Bound.pipeline is None:
        raise RuntimeError("no pipeline is bound")
    return _Bound.pipeline
