"""The limit on request bodies, counted as they come, so that a body without a length cannot fill memory or disk."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_shared.errors import TooLarge, openai_body


class BodyLimit:
    """Refuses bodies over `limit` bytes with 413; multipart bodies may have `upload_limit`, blobs any size."""

    def __init__(self, app: ASGIApp, limit: int, upload_limit: int) -> None:
        self.app = app
        self._limit = limit
        self._upload_limit = upload_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; a body that is too large ends it."""
        if scope["type"] != "http" or scope["path"].startswith("/api/blobs/"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        multipart = headers.get(b"content-type", b"").startswith(b"multipart/")
        limit = self._upload_limit if multipart else self._limit
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) <= limit:  # the server takes no more than what is declared
            await self.app(scope, receive, send)
            return
        error = TooLarge(f"The request is larger than the limit of {limit // 2**20} MiB.")
        refusal = JSONResponse(openai_body(error), status_code=error.status)
        if declared:
            await refusal(scope, receive, send)
            return
        received, answered = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise error
            return message

        async def send_or_refuse(message: Message) -> None:
            """Say that the body was too large where the framework would say that it could not be parsed."""
            nonlocal answered
            if received <= limit:
                await send(message)
            elif not answered:
                answered = True
                await refusal(scope, receive, send)

        await self.app(scope, counted, send_or_refuse)
