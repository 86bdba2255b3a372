"""Jobs and their workflows kept in agreement: no job waits for a workflow that will not come.

A job whose row was written and whose workflow was not enqueued (a kill between the two) is enqueued; one whose workflow
was given up (its step killed the worker again and again) or broke ends `failed`.
"""

import asyncio
import logging

from dbos import DBOS, WorkflowStatusString

from tunesmith_finetune import workflow
from tunesmith_finetune.failures import Failure
from tunesmith_finetune.pipeline import Pipeline, workflow_id
from tunesmith_finetune.repository import JobRepository
from tunesmith_shared.interruptions import MOST_DEATHS
from tunesmith_shared.names import ModelName
from tunesmith_shared.schemas.jobs import FINISHED

INTERVAL_SECONDS = 2.0
_logger = logging.getLogger("tunesmith.supervise")

GIVEN_UP = Failure(
    code="worker_crashed",
    message=f"The worker died {MOST_DEATHS} times in the same step of this job, which was given up. The worker's log "
    "has more; most often memory ran out. When the cause is gone, resume the job.",
    param=None,
)
_OVER = {
    status.value
    for status in (
        WorkflowStatusString.SUCCESS,
        WorkflowStatusString.ERROR,
        WorkflowStatusString.CANCELLED,
        WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED,
    )
}
BROKEN = Failure(code="internal_error", message="The job broke off; the worker's log has more.", param=None)


async def supervise(pipeline: Pipeline) -> None:
    """Put right what an earlier end left, then look after unfinished jobs for as long as the worker runs."""
    repaired = False
    while True:
        try:
            if not repaired:
                await repair(pipeline)
                repaired = True
            await look_once(pipeline.jobs)
        except Exception:  # the database may be away for a while; look again then
            _logger.warning("could not look after the jobs", exc_info=True)
        await asyncio.sleep(INTERVAL_SECONDS)


async def repair(pipeline: Pipeline) -> None:
    """Remove what jobs left that have ended: candidates, and the rows of models that never got their file."""
    publisher = pipeline.publisher
    unfinished = {job.id for job in await pipeline.jobs.unfinished()}
    for candidate in await publisher.candidates():
        if candidate.removesuffix("-base") not in unfinished:
            await publisher.withdraw_candidate(candidate)
    for name in await pipeline.models.unfounded_models():
        if not await publisher.is_served(ModelName.parse(name)):
            await pipeline.models.disown_model(name)


async def look_once(jobs: JobRepository) -> None:
    """Bring every unfinished job into agreement with its workflow."""
    for seen in await jobs.unfinished():
        status = await DBOS.get_workflow_status_async(workflow_id(seen))
        if status is not None and status.status not in _OVER:
            continue
        job = await jobs.get(seen.id)  # as it is now: a workflow ends after its job was set aside, never before
        if job.status in (*FINISHED, "paused") or job.run != seen.run:
            continue
        if status is None:
            await workflow.enqueue(job)
        elif status.status == WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED.value:
            await workflow.fail(job.id, GIVEN_UP)
        elif status.status == WorkflowStatusString.CANCELLED.value:
            await jobs.end(job.id, "cancelled")
        else:
            await workflow.fail(job.id, BROKEN)
