"""The middleware that gives creating routes their `Idempotency-Key`, in plain ASGI: it sees every body and answer.

The client's leaving is kept from the handler of such a request, so that what was begun has its answer stored.
"""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_gateway.authentication import caller_of
from tunesmith_gateway.dependencies import Services
from tunesmith_gateway.idempotency import IdempotencyService, KeptAnswer, RequestDigest
from tunesmith_shared.errors import BadRequest, Conflict, TunesmithError, render

_CREATING = re.compile(
    r"/v1/(files|batches|api_keys|fine_tuning/jobs|vector_stores|vector_stores/[^/]+/(files|file_batches))"
    r"|/api/(create|copy|pull|blobs/[^/]+)|/(createModel|importDocument|fine_tune_model)"
)
_SECRET = re.compile(rb'"secret":"[^"]*"')  # of a new API key: shown once, and kept hashed alone
_KNOWS_KEYS = ("/v1/fine_tuning/jobs",)
"""The routes whose service makes one thing a key, however often it is asked."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_UNCERTAIN = (500, 502, 504)  # something may have been made before it broke off
_REPLAYED = "idempotency-replayed"


class IdempotentRoutes:
    """Answers a creating request that was answered before with the stored answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; anything but a creating POST with an Idempotency-Key passes through."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _CREATING.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = headers.get("idempotency-key")
        if key is None:
            await self.app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        store = services.idempotency
        try:
            if not _KEY.fullmatch(key):
                raise BadRequest("An Idempotency-Key has 1 to 255 visible characters.", param="Idempotency-Key")
            owner = caller_of(scope).owner
            digest = RequestDigest("POST", scope["path"], headers.get("content-type", ""))
            known = scope["path"] in _KNOWS_KEYS and await store.take_over(owner, key)
            response = None if known else await self._earlier(store, owner, key, digest, receive)
        except TunesmithError as error:
            status, body, extra = render(error, scope["path"])
            response = JSONResponse(body, status_code=status, headers=extra)
        except ClientDisconnect:
            return
        if response is None:
            await _First(store, owner, key, digest).serve(self.app, scope, receive, send)
        else:
            await response(scope, receive, send)

    async def _earlier(
        self, store: IdempotencyService, owner: str, key: str, digest: RequestDigest, receive: Receive
    ) -> Response | None:
        """Return the stored answer; None when this request is the first and has taken the key."""
        answer = await store.take(owner, key)
        if answer is None:
            return None
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            digest.add(message.get("body", b""))
            if not message.get("more_body", False):
                break
        if digest.result() != answer.request_sha256:
            raise Conflict(
                "This Idempotency-Key came with another request before. Send a new key with a new request.",
                param="Idempotency-Key",
                code="idempotency_key_reused",
            )
        headers = {"content-type": answer.content_type, _REPLAYED: "true"}
        return Response(answer.body, status_code=answer.status, headers=headers)


class _First:
    """The first request with a key: its body is hashed as it is read, its answer is kept before its end is sent."""

    def __init__(self, store: IdempotencyService, owner: str, key: str, digest: RequestDigest) -> None:
        self._store = store
        self._owner = owner
        self._key = key
        self._digest = digest
        self._read = False
        self._settled = False
        self._status = 500
        self._content_type = ""
        self._answer = bytearray()

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the handler; at the end the key has an answer, is free again, or is known as interrupted."""

        async def receive_hashed() -> Message:
            if self._read:
                await asyncio.Event().wait()  # the client may leave; what it asked for is made all the same
            message = await receive()
            self._digest.add(message.get("body", b""))
            self._read = message["type"] == "http.request" and not message.get("more_body", False)
            return message

        async def send_kept(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                self._content_type = Headers(raw=list(message.get("headers", ()))).get("content-type", "")
            elif message["type"] == "http.response.body":
                self._answer += message.get("body", b"")
                if not message.get("more_body", False):
                    await self._settle()
            await send(message)

        try:
            await app(scope, receive_hashed, send_kept)
        finally:
            if not self._settled:
                await asyncio.shield(self._store.interrupt(self._owner, self._key))

    async def _settle(self) -> None:
        self._settled = True
        if self._status in _UNCERTAIN:
            await self._store.interrupt(self._owner, self._key)
            return
        if not 200 <= self._status < 300 or not self._read:
            await self._store.give_back(self._owner, self._key)
            return
        body = _SECRET.sub(b'"secret":""', self._answer).decode()
        answer = KeptAnswer(self._digest.result(), self._status, self._content_type, body)
        await self._store.keep(self._owner, self._key, answer)
