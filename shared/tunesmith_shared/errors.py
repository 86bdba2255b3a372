"""The error root of every service, and the two shapes in which errors are shown.

Everything a caller may see is a `TunesmithError`: a sentence that says what happened and what to do, the HTTP status,
OpenAI's `type`, and where it helps the parameter and a code. `render` makes OpenAI's body of it, and Ollama's
`{"error": "text"}` for paths under `/api/`, where Ollama's clients expect that.
"""

from typing import ClassVar


class TunesmithError(Exception):
    """The root: subclasses fix `status`, `type` and the default `code`; an instance adds what happened.

    `message` is for people. `param` names the request field that is at fault. `retry_after` is in seconds.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after = retry_after


class BadRequest(TunesmithError):
    """The request cannot be served as it is; the message says what to change."""

    status = 400
    type = "invalid_request_error"


class Unauthorized(TunesmithError):
    """No API key, or one that is unknown, expired or revoked."""

    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class Forbidden(TunesmithError):
    """The key is known and has not the scope that this needs."""

    status = 403
    type = "permission_error"


class NotFound(TunesmithError):
    """There is nothing of this name that the caller owns; the message lists what there is, where that is short."""

    status = 404
    type = "not_found_error"


class Conflict(TunesmithError):
    """It exists already, or is in a state that does not allow this."""

    status = 409
    type = "conflict_error"


class TooLarge(TunesmithError):
    """More bytes, pages or parts than the configured limit."""

    status = 413
    type = "invalid_request_error"


class TooManyRequests(TunesmithError):
    """A rate, concurrency or queue limit is reached; `retry_after` says when to come back."""

    status = 429
    type = "rate_limit_error"


class Unsupported(TunesmithError):
    """Understood, and not offered here."""

    status = 501
    type = "invalid_request_error"
    default_code = "unsupported"


class UpstreamFailed(TunesmithError):
    """A service that this one depends on answered with an error or broke off."""

    status = 502
    default_code = "upstream_failed"


class Unavailable(TunesmithError):
    """This service, or one that it depends on, cannot take requests now; `retry_after` says when to come back."""

    status = 503
    default_code = "unavailable"


class UpstreamTimeout(TunesmithError):
    """A service that this one depends on did not answer in time."""

    status = 504
    default_code = "upstream_timeout"


class StorageFull(TunesmithError):
    """There is not enough disk space; the message says how much is needed and how much there is."""

    status = 507
    default_code = "storage_full"


Body = dict[str, object]


def openai_body(error: TunesmithError) -> Body:
    """Return OpenAI's error body for `error`."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def render(error: TunesmithError, path: str) -> tuple[int, Body, dict[str, str]]:
    """Return status, body and headers for `error` on `path`: Ollama's shape under `/api/`, OpenAI's elsewhere."""
    body: Body = {"error": error.message} if path.startswith("/api/") else openai_body(error)
    headers = {"retry-after": str(error.retry_after)} if error.retry_after is not None else {}
    return error.status, body, headers
