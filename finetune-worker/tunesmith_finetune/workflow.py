"""A fine-tuning job as a DBOS workflow: the steps of `steps/`, one after the other, and one ending.

What a step finds wrong is its result and not an exception, so that a recovered workflow gives a job the same error.
A step that is interrupted (the job is cancelled, the worker stops or dies) leaves no result and is run again, or not at
all. Each run of a job is a workflow: the first one has the job's id; a resume, after a pause or a failure, begins the
next one, for which the steps that were done before are done.
"""

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import Final, Literal

from dbos import DBOS, SetWorkflowID
from dbos import error as dbos_error
from sqlalchemy.exc import SQLAlchemyError

from tunesmith_finetune.failures import Failure, failure_of
from tunesmith_finetune.pipeline import Pipeline, SetAside, workflow_id
from tunesmith_finetune.proof import UNPROVEN
from tunesmith_finetune.result_files import store_report
from tunesmith_finetune.steps import STEPS
from tunesmith_shared.durable import WORKFLOW
from tunesmith_shared.outage import is_away, outlast
from tunesmith_shared.tables import Job
from tunesmith_shared.tracing import span

QUEUE = "fine-tuning"
SET_ASIDE: Final = "set aside"
"""What a step gives whose job was paused, or is another run's by now: this run ends, and the job does not."""

_WATCH_SECONDS = 1.0
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


async def enqueue(job: Job) -> None:
    """Put the present run of a job into the queue; it is no error when it is there."""
    with SetWorkflowID(workflow_id(job)):
        await DBOS.enqueue_workflow_async(QUEUE, fine_tune, job.id, job.run)


async def cancel(job: Job) -> None:
    """Stop a job's workflow: its running step is interrupted, the others never start."""
    await DBOS.cancel_workflow_async(workflow_id(job))


@DBOS.workflow(**WORKFLOW)
async def fine_tune(job_id: str, run: int = 1) -> None:
    """Run every step of a job, until one fails or the job is set aside."""
    for name in STEPS:
        outcome = await DBOS.run_step_async({"name": name, "preemptible": True}, run_step, name, job_id, run)
        if outcome == SET_ASIDE:
            return
        if outcome is not None:
            await DBOS.run_step_async({"name": "fail"}, outlast, partial(fail, job_id, outcome))
            return
    await DBOS.run_step_async({"name": "succeed"}, outlast, partial(succeed, job_id))


async def run_step(name: str, job_id: str, run: int) -> Failure | Literal["set aside"] | None:
    """Run one step of a job, unless it is done; gives what went wrong, that the job was set aside, or None.

    Only one run of a job is at work at a time, whatever was resumed while the one before was still ending. A step that
    broke off because the database was away is run again when that is back, and goes on from what it left on disk.
    """
    return await outlast(partial(_attempt, name, job_id, run))


async def _attempt(name: str, job_id: str, run: int) -> Failure | Literal["set aside"] | None:
    pipeline = _pipeline()
    job = await pipeline.jobs.get(job_id)
    try:
        async with pipeline.workspace(job).lock:
            if not await pipeline.jobs.move(job_id, run, "validating_files" if name == "validate" else "running"):
                return SET_ASIDE
            if not pipeline.workspace(job).done(name).exists():
                with span(f"step {name}", {"tunesmith.job_id": job_id}):
                    await _watched(pipeline, job, name, STEPS[name](pipeline, job))
                pipeline.workspace(job).done(name).touch()
    except SetAside:
        return SET_ASIDE
    except Exception as error:  # whatever else it is, the job must end with an error that says so
        if is_away(error):
            raise
        failure = failure_of(error, name)
        with suppress(OSError):
            await asyncio.to_thread(pipeline.workspace(job).remove_drafts)
        if not await pipeline.jobs.is_current(job_id, run):
            return SET_ASIDE
        level = logging.ERROR if failure["code"] == "internal_error" else logging.WARNING
        _logger.log(
            level, "job %s failed in step %s: %s", job_id, name, failure["message"], exc_info=level == logging.ERROR
        )
        return failure
    _logger.info("job %s: %s is done", job_id, name)
    return None


async def _watched(pipeline: Pipeline, job: Job, name: str, step: Awaitable[None]) -> None:
    """Wait for `step`, unless the job is set aside: a training then saves a checkpoint and ends, others break off.

    Raises `SetAside`, and what the step raises.
    """
    work = asyncio.ensure_future(step)
    try:
        while not (await asyncio.wait([work], timeout=_WATCH_SECONDS))[0]:
            if await _goes_on(pipeline, job):
                continue
            if name != "train":
                raise SetAside
            pipeline.workspace(job).pause.touch()
        work.result()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _goes_on(pipeline: Pipeline, job: Job) -> bool:
    try:
        return await pipeline.jobs.is_current(job.id, job.run)
    except SQLAlchemyError:  # the database is away for a while; nobody can have set the job aside then
        return True


async def fail(job_id: str, failure: Failure) -> None:
    """End a job as failed."""
    pipeline = _pipeline()
    await pipeline.publisher.withdraw_candidate(job_id)
    if failure["code"] in UNPROVEN:
        await store_report(pipeline, job_id)
        await asyncio.to_thread(pipeline.workspace(await pipeline.jobs.get(job_id)).remove_intermediates)
    if await pipeline.jobs.end(job_id, "failed", failure):
        await pipeline.events.tell(
            job_id, "failed", f"The job failed: {failure['message']}", data=dict(failure), level="error"
        )


async def succeed(job_id: str) -> None:
    """End a job as succeeded."""
    pipeline = _pipeline()
    if await pipeline.jobs.end(job_id, "succeeded"):
        await pipeline.events.tell(job_id, "succeeded", "The job has successfully completed")


def _pipeline() -> Pipeline:
    if _Bound.pipeline is None:
        raise RuntimeError("no pipeline is bound")
    return _Bound.pipeline
