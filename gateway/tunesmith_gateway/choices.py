"""Several choices of one request, where a backend does not offer them: as many generations at once, put together.

A request has several when it asks for them (`n`), and a completion with several prompts has `n` for each of these.
An answer, whole or streamed, is asked for all its choices first: a backend that knows `n` reads the prompt once for all
of them. A request with a seed gives choice i the seed + i, which makes the choices differ and can be repeated.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import orjson
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tunesmith_gateway.backends.route import Route
from tunesmith_gateway.disconnect import while_connected
from tunesmith_gateway.sse import DONE, event, read_events
from tunesmith_shared.errors import TunesmithError, openai_body

Json = dict[str, Any]
Result = TypeVar("Result")

_AT_ONCE = 16
"""Generations of one request that run side by side; the others wait for these."""


class Choices(Response):
    """The answer to a request for `count` choices (of each prompt), whole or as one stream in which each chunk names
    its choice.
    """

    def __init__(self, route: Route, owner: str, path: str, body: Json, count: int) -> None:
        super().__init__()
        self._route = route
        self._owner = owner
        self._path = path
        self._body = body
        self._count = count
        self._prompts = each_prompt(body)
        self._bodies = [one for prompt in self._prompts for one in numbered(prompt, count)]
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._spent: dict[int, Json] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Generate and send; a client that leaves stops every generation."""
        response: Response
        if self._bodies[0].get("stream"):
            response = StreamingResponse(self._streamed(), media_type="text/event-stream")
        else:
            work = several(self._route, self._path, self._owner, self._body, self._count)
            response = JSONResponse(await while_connected(receive, work))
        await response(scope, receive, send)

    async def _streamed(self) -> AsyncIterator[bytes]:
        """Yield the events of all choices: those that one request gives, then those that it left out, side by side."""
        given: set[int] = set()
        if self._route.tries_choices and len(self._prompts) == 1:
            body = {**self._bodies[0], "n": len(self._bodies)}
            try:
                async with aclosing(read_events(self._route, self._path, self._owner, body)) as parts:
                    async for part in parts:
                        given.update(choice["index"] for choice in orjson.loads(part).get("choices", ()))
                        yield event(part)
            except TunesmithError as error:
                yield event(orjson.dumps(openai_body(error)))
                return
        left_out = [index for index in range(len(self._bodies)) if index not in given]
        if given and left_out:
            self._route.ignores_n()
        async with aclosing(self._side_by_side(left_out)) as events:
            async for part in events:
                yield part

    async def _side_by_side(self, indices: Sequence[int]) -> AsyncGenerator[bytes]:
        """Yield the events of these choices, each from a request of its own, then the end mark or an error."""
        queue: asyncio.Queue[bytes | TunesmithError | None] = asyncio.Queue(maxsize=64)
        tasks = [asyncio.create_task(self._read(index, queue)) for index in indices]
        try:
            running = len(tasks)
            while running:
                part = await queue.get()
                if isinstance(part, TunesmithError):
                    yield event(orjson.dumps(openai_body(part)))
                    return
                if part is None:
                    running -= 1
                else:
                    yield event(part)
            if self._spent:
                yield event(orjson.dumps(self._all_spent()))
            yield event(DONE)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _all_spent(self) -> Json:
        """Return one event for the tokens of all these generations. A prompt's tokens count once."""
        asked: dict[int, int] = {}
        for index, chunk in self._spent.items():
            asked.setdefault(index // self._count, chunk["usage"]["prompt_tokens"])
        completion = sum(chunk["usage"]["completion_tokens"] for chunk in self._spent.values())
        last = next(reversed(self._spent.values()))
        return {**last, "usage": _usage(sum(asked.values()), completion)}

    async def _read(self, index: int, queue: "asyncio.Queue[bytes | TunesmithError | None]") -> None:
        """Put the chunks of one generation into the queue, each choice under its own index, and None at the end."""
        events = read_events(self._route, self._path, self._owner, self._bodies[index])
        try:
            async with self._places, aclosing(events) as parts:
                async for part in parts:
                    chunk = orjson.loads(part)
                    if not chunk.get("choices") and chunk.get("usage"):
                        self._spent[index] = chunk
                        continue
                    for choice in chunk.get("choices", ()):
                        choice["index"] = index
                    await queue.put(orjson.dumps(chunk))
            await queue.put(None)
        except TunesmithError as error:
            await queue.put(error)


async def several(route: Route, path: str, owner: str, body: Json, count: int) -> Json:
    """Return one whole answer with `count` choices, of each prompt where there are several.

    What a backend that ignores `n` leaves out comes from requests of their own, all at once.
    """
    prompts = each_prompt(body)
    if len(prompts) > 1:
        return merged_prompts(await _limited([several(route, path, owner, one, count) for one in prompts]))
    bodies = numbered(prompts[0], count)
    answers: list[Json] = []
    if count > 1 and route.tries_choices:
        answers = [await route.call("POST", path, owner=owner, body={**bodies[0], "n": count})]
        given = len(answers[0]["choices"])
        if given < count:
            route.ignores_n()
        bodies = bodies[given:]
    rest = [route.call("POST", path, owner=owner, body=one) for one in bodies]
    return merged([*answers, *await together(rest)])


async def _limited(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return what all of `work` gives, a number of them run at once. Fails as `together` does."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def placed(one: Coroutine[Any, Any, Result]) -> Result:
        async with places:
            return await one

    return await together([placed(one) for one in work])


async def together(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return what all of `work` gives, run at once. The first failure stops the rest and is raised."""
    failure: Exception
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
        return [task.result() for task in tasks]
    except ExceptionGroup as failures:
        failure = failures.exceptions[0]
    raise failure


def merged(answers: list[Json]) -> Json:
    """Return one answer with the choices of all, numbered in their order. The prompt's tokens count once."""
    whole = dict(answers[0])
    choices = [choice for answer in answers for choice in answer["choices"]]
    whole["choices"] = [{**choice, "index": index} for index, choice in enumerate(choices)]
    if "usage" in whole:
        completion = sum(answer["usage"]["completion_tokens"] for answer in answers)
        whole["usage"] = _usage(answers[0]["usage"]["prompt_tokens"], completion)
    return whole


def merged_prompts(answers: list[Json]) -> Json:
    """Return one answer with the choices of several prompts, in their order. Each prompt's tokens count."""
    whole = merged(answers)
    if "usage" in whole:
        prompts = sum(answer["usage"]["prompt_tokens"] for answer in answers)
        whole["usage"] = _usage(prompts, whole["usage"]["completion_tokens"])
    return whole


def _usage(prompt: int, completion: int) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def each_prompt(body: Json) -> list[Json]:
    """Return a body for each prompt of a completion; the body itself where there is one, or none."""
    prompts = body.get("prompt")
    if not isinstance(prompts, list) or not prompts or isinstance(prompts[0], int):  # numbers are the tokens of one
        return [body]
    return [{**body, "prompt": prompt} for prompt in prompts]


def numbered(body: Json, count: int) -> list[Json]:
    """Return a body for each of `count` choices; each has its own seed when `body` has one."""
    single = {name: value for name, value in body.items() if name != "n"}
    if not isinstance(single.get("seed"), int):
        return [single] * count
    return [{**single, "seed": single["seed"] + index} for index in range(count)]
