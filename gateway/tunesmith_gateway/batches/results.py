"""The lines of a batch's output and error files, in OpenAI's shape."""

from typing import Any

import orjson

from tunesmith_shared.errors import TunesmithError, openai_body
from tunesmith_shared.ids import new_id

Json = dict[str, Any]


def answered(custom_id: str, request_id: str, body: Json) -> str:
    """Return the output line of an answer."""
    return _line(custom_id, request_id, 200, body)


def refused(custom_id: str, request_id: str, error: TunesmithError) -> str:
    """Return the error line of a request that ended in `error`."""
    return _line(custom_id, request_id, error.status, openai_body(error))


def _line(custom_id: str, request_id: str, status: int, body: Json) -> str:
    response = {"status_code": status, "request_id": request_id, "body": body}
    line = {"id": new_id("batch_req"), "custom_id": custom_id, "response": response, "error": None}
    return orjson.dumps(line).decode()
