"""What the routes under `/v1` share: reading a body, completing it, and passing it on to Ollama's `/v1`.

Ollama's `/v1` ignores `n` and `max_completion_tokens` and puts 1.0 in place of the model's own temperature; a body is
completed here so that the three mean what OpenAI's documentation says, and is left as it came otherwise.
"""

from typing import Any

import orjson
from fastapi import Request

from tunesmith_gateway.choices import Choices, merged, numbered, together
from tunesmith_gateway.dependencies import Services
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.relay import SSE, SSE_HIDING_USAGE, Generation, Relay
from tunesmith_gateway.sse import asking_for_usage, asks_for_usage
from tunesmith_gateway.usage import metered
from tunesmith_shared.errors import BadRequest, NotFound, TunesmithError

_MOST_CHOICES = 16


async def read_json(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object. Raises `BadRequest`, saying where it is none."""
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def model_of(body: dict[str, Any]) -> str:
    """Return the model that a body names. Raises `BadRequest` when it names none."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise BadRequest("Name the model to use.", param="model")
    return name


async def generate(
    request: Request, services: Services, caller: Caller, path: str, body: dict[str, Any]
) -> Relay | Choices:
    """Pass a generation on; `n` choices are as many generations."""
    full = await services.models.allow(caller.owner, model_of(body))
    complete = completed(body, await services.models.sampling(full))
    count = number_of_choices(complete)
    if count > 1:
        return Choices(services.ollama, caller.owner, path, complete, count)
    generation = SSE
    if metered() and body.get("stream") and not asks_for_usage(body):
        complete, generation = asking_for_usage(complete), SSE_HIDING_USAGE
    content = await request.body() if complete == body else orjson.dumps(complete)
    return relay(services, caller, path, content, model_of(body), generation)


async def generate_whole(services: Services, owner: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the whole answer to a generation, with all its choices."""
    full = await services.models.allow(owner, model_of(body))
    complete = completed(body, await services.models.sampling(full))
    bodies = numbered(complete, number_of_choices(complete))
    calls = [services.ollama.call("POST", path, owner=owner, body=each) for each in bodies]
    answers = await together(calls)
    return merged(answers) if len(answers) > 1 else answers[0]


def relay(
    services: Services, caller: Caller, path: str, content: bytes, model: str, generation: Generation = SSE
) -> Relay:
    """Pass bytes on to Ollama's `/v1` and the answer's bytes back; an unknown model is told with those there are."""

    async def explain(error: TunesmithError) -> TunesmithError:
        return await services.models.unknown(caller.owner, model) if isinstance(error, NotFound) else error

    return Relay(
        services.ollama,
        "POST",
        path,
        headers={**services.ollama.for_owner(caller.owner), "content-type": "application/json"},
        body=content,
        on_error=explain,
        generation=generation,
    )


def completed(body: dict[str, Any], sampling: dict[str, Any]) -> dict[str, Any]:
    """Return `body` with the model's own `sampling` where the request has none, and with Ollama's name of the limit."""
    limit = body.get("max_completion_tokens")
    complete = {name: value for name, value in body.items() if name != "max_completion_tokens"}
    if limit is not None:
        complete.setdefault("max_tokens", limit)
    for name, value in sampling.items():
        if complete.get(name) is None:
            complete[name] = value
    return complete


def number_of_choices(body: dict[str, Any]) -> int:
    """Return `n`. Raises `BadRequest` when it is none of 1 to 16."""
    count = body.get("n")
    if count is None:
        return 1
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_CHOICES:
        raise BadRequest(f"n must be a whole number from 1 to {_MOST_CHOICES}.", param="n")
    return count
