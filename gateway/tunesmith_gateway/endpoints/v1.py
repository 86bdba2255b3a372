"""What the routes under `/v1` share: reading a body, and passing it on to the backend that has its model."""

from typing import Any

import orjson
from fastapi import Request

from tunesmith_gateway.choices import Choices, several
from tunesmith_gateway.dependencies import Services
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.relay import SSE, SSE_HIDING_USAGE, Generation, Relay
from tunesmith_gateway.sse import asking_for_usage, asks_for_usage
from tunesmith_gateway.upstream import Outgoing
from tunesmith_gateway.usage import metered
from tunesmith_shared.errors import BadRequest, NotFound, TunesmithError

Json = dict[str, Any]

_MOST_CHOICES = 16
_MOST_PROMPTS = 128


async def read_json(request: Request) -> Json:
    """Return the body as a JSON object. Raises `BadRequest`, saying where it is none."""
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def model_of(body: Json) -> str:
    """Return the model that a body names. Raises `BadRequest` when it names none."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise BadRequest("Name the model to use.", param="model")
    return name


async def generate(request: Request, services: Services, caller: Caller, path: str, body: Json) -> Relay | Choices:
    """Pass a generation on; several choices are as many generations where the backend does not offer them."""
    await services.models.allow(caller.owner, model_of(body))
    count = number_of_choices(body)
    if (count > 1 or _has_list(body)) and not (route := services.backends.route(model_of(body))).several_choices:
        return Choices(route, caller.owner, path, body, count)
    if metered() and body.get("stream") and not asks_for_usage(body):
        return relay(services, caller, path, asking_for_usage(body), None, SSE_HIDING_USAGE)
    return relay(services, caller, path, body, await request.body())


async def generate_whole(services: Services, owner: str, path: str, body: Json) -> Json:
    """Return the whole answer to a generation, with all its choices."""
    await services.models.allow(owner, model_of(body))
    route = services.backends.route(model_of(body))
    return await several(route, path, owner, body, number_of_choices(body))


def relay(
    services: Services, caller: Caller, path: str, body: Json, content: bytes | None, generation: Generation = SSE
) -> Relay:
    """Pass a request on, as `content` where that says the same as `body`, and the answer's bytes back.

    An unknown model is told with those there are.
    """
    model = model_of(body)

    async def explain(error: TunesmithError) -> TunesmithError:
        return await services.models.unknown(caller.owner, model) if isinstance(error, NotFound) else error

    return Relay(
        services.backends.route(model),
        Outgoing("POST", path, caller.owner, content=content, body=body),
        on_error=explain,
        generation=generation,
    )


def _has_list(body: Json) -> bool:
    """Return whether a completion has a list of prompts, which Ollama does not take. Raises `BadRequest` for many."""
    prompts = body.get("prompt")
    if not isinstance(prompts, list) or not prompts or isinstance(prompts[0], int):
        return False
    if len(prompts) > _MOST_PROMPTS:
        raise BadRequest(
            f"A request may have {_MOST_PROMPTS} prompts and has {len(prompts)}: split it.", param="prompt"
        )
    return True


def number_of_choices(body: Json) -> int:
    """Return `n`. Raises `BadRequest` when it is none of 1 to 16."""
    count = body.get("n")
    if count is None:
        return 1
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_CHOICES:
        raise BadRequest(f"n must be a whole number from 1 to {_MOST_CHOICES}.", param="n")
    return count
