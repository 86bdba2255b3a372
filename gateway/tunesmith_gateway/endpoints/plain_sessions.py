"""The plain dialect: sessions: listing, showing, exporting and clearing them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from tunesmith_gateway.dependencies import Chatter, GatewayServices
from tunesmith_gateway.exports import CONTENT_TYPES, exported
from tunesmith_gateway.sessions import checked_session_id
from tunesmith_shared.errors import BadRequest
from tunesmith_shared.tables import Session

router = APIRouter(tags=["plain"])


class SessionRequest(BaseModel):
    """Names a session."""

    session_id: str


@router.get("/sessions")
async def sessions(
    services: GatewayServices,
    caller: Chatter,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """List the caller's sessions, the last used first; `after` is the last id of the page before."""
    rows = await services.sessions.page(caller.owner, after, limit + 1)
    shown = [_shown(row) for row in rows[:limit]]
    return {"sessions": shown, "has_more": len(rows) > limit, "last_id": rows[:limit][-1].id if shown else None}


@router.get("/sessions/{session_id}")
async def session(session_id: str, services: GatewayServices, caller: Chatter) -> dict[str, Any]:
    """Show a session's messages."""
    row = await services.sessions.get(caller.owner, checked_session_id(session_id))
    messages = await services.sessions.history(caller.owner, session_id)
    return {
        **_shown(row),
        "messages": [{"role": m.role, "content": m.content, "created_at": m.created_at} for m in messages],
    }


@router.get("/sessions/{session_id}/export")
async def export(
    session_id: str,
    services: GatewayServices,
    caller: Chatter,
    file_format: Annotated[Literal["json", "jsonl", "markdown"], Query(alias="format")] = "json",
) -> Response:
    """Give a session as a file: all of it as JSON, a line of a training dataset (jsonl), or Markdown to read."""
    row = await services.sessions.get(caller.owner, checked_session_id(session_id))
    messages = await services.sessions.history(caller.owner, session_id)
    content_type, suffix = CONTENT_TYPES[file_format]
    headers = {
        "content-disposition": f'attachment; filename="{row.id}.{suffix}"',
        "x-content-type-options": "nosniff",
    }
    return Response(exported(row, messages, file_format), media_type=content_type, headers=headers)


@router.delete("/clear_session")
async def clear_session(
    services: GatewayServices, caller: Chatter, wanted: SessionRequest | None = None, session_id: str | None = None
) -> dict[str, Any]:
    """Forget a session. The id comes in the query or as JSON."""
    identifier = session_id or (wanted.session_id if wanted else None)
    if not identifier:
        raise BadRequest("Name the session to clear.", param="session_id")
    deleted = await services.sessions.clear(caller.owner, checked_session_id(identifier))
    return {"status": "Session cleared", "session_id": identifier, "deleted_messages": deleted}


def _shown(row: Session) -> dict[str, Any]:
    return {"session_id": row.id, "model": row.model, "created_at": row.created_at, "updated_at": row.updated_at}
