"""The worker's routes, in OpenAI's paths and shapes; the gateway relays them."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import StreamingResponse

from tunesmith_finetune.service import JobService
from tunesmith_shared.auth import Owner
from tunesmith_shared.schemas.base import Page
from tunesmith_shared.schemas.jobs import (
    CheckpointMetrics,
    CheckpointObject,
    EventObject,
    JobCreate,
    JobError,
    JobObject,
)
from tunesmith_shared.schemas.previews import JobPreview
from tunesmith_shared.tables import Checkpoint, Job, JobEvent

router = APIRouter(prefix="/v1", tags=["fine-tuning"])

After = Annotated[str | None, Query()]
Limit = Annotated[int, Query(ge=1, le=100)]


def _service(request: Request) -> JobService:
    return cast(JobService, request.app.state.service)


Service = Annotated[JobService, Depends(_service)]


@router.post("/fine_tuning/jobs")
async def create_job(
    body: JobCreate,
    owner: Owner,
    service: Service,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> JobObject:
    """Start a fine-tuning job, one for each idempotency key."""
    return show_job(await service.create(owner, body, idempotency_key))


@router.post("/fine_tuning/jobs/preview")
async def preview_job(body: JobCreate, owner: Owner, service: Service) -> JobPreview:
    """Show what a job would do, before anything starts."""
    return await service.preview(owner, body)


@router.get("/fine_tuning/jobs")
async def list_jobs(owner: Owner, service: Service, after: After = None, limit: Limit = 20) -> Page[JobObject]:
    """List jobs, newest first."""
    jobs, more = await service.list(owner, after, limit)
    return _page([show_job(job) for job in jobs], more)


@router.get("/fine_tuning/jobs/{job_id}")
async def get_job(job_id: str, owner: Owner, service: Service) -> JobObject:
    """Show a job."""
    return show_job(await service.get(owner, job_id))


@router.post("/fine_tuning/jobs/{job_id}/cancel")
async def cancel_job(job_id: str, owner: Owner, service: Service) -> JobObject:
    """Cancel a job."""
    return show_job(await service.cancel(owner, job_id))


@router.post("/fine_tuning/jobs/{job_id}/pause")
async def pause_job(job_id: str, owner: Owner, service: Service) -> JobObject:
    """Set a job aside."""
    return show_job(await service.pause(owner, job_id))


@router.post("/fine_tuning/jobs/{job_id}/resume")
async def resume_job(job_id: str, owner: Owner, service: Service) -> JobObject:
    """Let a paused or failed job go on."""
    return show_job(await service.resume(owner, job_id))


@router.get("/fine_tuning/jobs/{job_id}/events", response_model=None)
async def list_events(
    job_id: str, owner: Owner, service: Service, after: After = None, limit: Limit = 20, stream: bool = False
) -> Page[EventObject] | StreamingResponse:
    """List a job's events, newest first; with `stream=true` send all of them, oldest first, as they happen."""
    if stream:
        await service.get(owner, job_id)
        return StreamingResponse(_sse(service, owner, job_id), media_type="text/event-stream")
    events, more = await service.events(owner, job_id, after, limit)
    return _page([show_event(event) for event in events], more)


@router.get("/fine_tuning/jobs/{job_id}/checkpoints")
async def list_checkpoints(
    job_id: str, owner: Owner, service: Service, after: After = None, limit: Limit = 10
) -> Page[CheckpointObject]:
    """List a job's checkpoints, newest first."""
    checkpoints, more = await service.checkpoints(owner, job_id, after, limit)
    return _page([show_checkpoint(checkpoint) for checkpoint in checkpoints], more)


@router.get("/base_models")
async def list_base_models(_owner: Owner, service: Service) -> dict[str, Any]:
    """List the base models that training can start from."""
    data = [
        {
            "id": base.name,
            "object": "base_model",
            "license": base.license,
            "context_length": base.context_length,
            "revision": base.revision,
            "served_as": list(base.served_as),
        }
        for base in await service.base_models()
    ]
    return {"object": "list", "data": data}


def show_job(job: Job) -> JobObject:
    """Return a job as the API shows it."""
    method = job.method
    chosen = method[method["type"]]["hyperparameters"]
    error = None
    if job.error_code is not None:
        error = JobError(code=job.error_code, message=job.error_message or "", param=job.error_param)
    return JobObject(
        id=job.id,
        created_at=job.created_at,
        finished_at=job.finished_at,
        estimated_finish=job.estimated_finish,
        model=job.model,
        fine_tuned_model=job.fine_tuned_model,
        organization_id=job.owner,
        result_files=job.result_files,
        status=cast(Any, job.status),
        trained_tokens=job.trained_tokens,
        training_file=job.training_file,
        validation_file=job.validation_file,
        seed=job.seed,
        hyperparameters={name: chosen[name] for name in ("n_epochs", "batch_size", "learning_rate_multiplier")},
        method=method,
        metadata=job.job_metadata,
        error=error,
    )


def show_event(event: JobEvent) -> EventObject:
    """Return an event as the API shows it."""
    return EventObject(
        id=event.id,
        created_at=event.created_at,
        level=cast(Any, event.level),
        message=event.message,
        type=cast(Any, event.type),
        data=event.data,
    )


def show_checkpoint(checkpoint: Checkpoint) -> CheckpointObject:
    """Return a checkpoint as the API shows it."""
    return CheckpointObject(
        id=checkpoint.id,
        created_at=checkpoint.created_at,
        fine_tuned_model_checkpoint=checkpoint.fine_tuned_model_checkpoint,
        fine_tuning_job_id=checkpoint.job_id,
        step_number=checkpoint.step_number,
        metrics=CheckpointMetrics.model_validate(checkpoint.metrics),
    )


def _page(data: Sequence[Any], more: bool) -> Page[Any]:
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return Page(data=list(data), has_more=more, first_id=first, last_id=last)


async def _sse(service: JobService, owner: str, job_id: str) -> AsyncIterator[str]:
    async for event in service.follow(owner, job_id):
        yield f"data: {show_event(event).model_dump_json()}\n\n"
    yield "data: [DONE]\n\n"
