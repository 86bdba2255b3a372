"""OpenAI's dialect: batches."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request

from tunesmith_gateway.batches.schemas import BatchCreate, BatchObject
from tunesmith_gateway.batches.service import BatchService
from tunesmith_gateway.dependencies import Chatter
from tunesmith_shared.schemas.base import Page

router = APIRouter(prefix="/v1/batches", tags=["openai"])


async def _service(request: Request) -> BatchService:
    return cast(BatchService, request.app.state.batches)


Batches = Annotated[BatchService, Depends(_service)]


@router.post("")
async def create(wanted: BatchCreate, batches: Batches, caller: Chatter) -> BatchObject:
    """Run a file of requests."""
    return BatchObject.of(await batches.create(caller.owner, caller.key_id, wanted))


@router.get("")
async def listing(
    batches: Batches,
    caller: Chatter,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[BatchObject]:
    """List the caller's batches, newest first."""
    rows = await batches.page(caller.owner, after, limit + 1)
    data = [BatchObject.of(row) for row in rows[:limit]]
    return Page[BatchObject](
        data=data,
        has_more=len(rows) > limit,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )


@router.get("/{batch_id}")
async def batch(batch_id: str, batches: Batches, caller: Chatter) -> BatchObject:
    """Show one batch and how far it is."""
    return BatchObject.of(await batches.get(caller.owner, batch_id))


@router.post("/{batch_id}/cancel")
async def cancel(batch_id: str, batches: Batches, caller: Chatter) -> BatchObject:
    """Stop a batch."""
    return BatchObject.of(await batches.cancel(caller.owner, batch_id))
