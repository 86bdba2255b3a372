"""The middleware that refuses paths which say more than names: `..`, absolute parts, `;`, NUL, a leading `-`.

Names in paths go on to other services and to Ollama, whose URLs are put together from them; what would lead somewhere
else there is refused here, for every route at once and also when it was encoded twice.
"""

import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith_shared.errors import BadRequest, render

_PATH = re.compile(r"(/(?![-.])[^\x00-\x1f\x7f/\\;?#%]+)*/?")


class PlainPaths:
    """Answers 400 to a path with a part that cannot be a name."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; anything but HTTP passes through."""
        if scope["type"] != "http" or is_plain(scope["path"]):
            await self.app(scope, receive, send)
            return
        message = "The path has a part that is no name: one with '..', ';', '%' or a backslash, or with a leading '-'."
        status, body, _ = render(BadRequest(message, param="path"), scope["path"])
        await JSONResponse(body, status_code=status)(scope, receive, send)


def is_plain(path: str) -> bool:
    """Return whether every part of a decoded path can be a name; one slash may end it."""
    return _PATH.fullmatch(path) is not None
