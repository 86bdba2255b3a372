"""OpenAI's dialect: files."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, UploadFile
from fastapi.responses import FileResponse

from tunesmith_gateway.dependencies import GatewayServices, Uploader
from tunesmith_shared.errors import BadRequest
from tunesmith_shared.schemas.base import Deleted, Page
from tunesmith_shared.schemas.files import UPLOAD_PURPOSES, FileObject

router = APIRouter(prefix="/v1/files", tags=["openai"])


@router.post("")
async def upload(
    file: UploadFile, purpose: Annotated[str, Form()], services: GatewayServices, caller: Uploader
) -> FileObject:
    """Store a file."""
    if purpose not in UPLOAD_PURPOSES:
        raise BadRequest(f"The purpose must be one of {', '.join(UPLOAD_PURPOSES)}.", param="purpose")
    return FileObject.of(await services.files.create(caller.owner, file, purpose))


@router.get("")
async def files(
    services: GatewayServices,
    caller: Uploader,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> Page[FileObject]:
    """List the caller's files."""
    rows = await services.files.page(caller.owner, purpose, after, limit + 1, newest_first=order == "desc")
    data = [FileObject.of(row) for row in rows[:limit]]
    return Page[FileObject](
        data=data,
        has_more=len(rows) > limit,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )


@router.get("/{file_id}")
async def file(file_id: str, services: GatewayServices, caller: Uploader) -> FileObject:
    """Show one file."""
    return FileObject.of(await services.files.get(caller.owner, file_id))


@router.get("/{file_id}/content")
async def content(file_id: str, services: GatewayServices, caller: Uploader) -> FileResponse:
    """Give a file's bytes, always as a download, so that a browser never shows an upload as a page of ours."""
    row = await services.files.get(caller.owner, file_id)
    headers = {"x-content-type-options": "nosniff"}
    return FileResponse(
        services.files.path(row), filename=row.filename, media_type="application/octet-stream", headers=headers
    )


@router.delete("/{file_id}")
async def delete(file_id: str, services: GatewayServices, caller: Uploader) -> Deleted:
    """Remove a file."""
    await services.files.delete(caller.owner, file_id)
    return Deleted(id=file_id, object="file")
