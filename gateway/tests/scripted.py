"""A model server that answers by a script, counts, and holds answers back until the test lets them go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Json = dict[str, Any]


@dataclass
class ScriptedOllama:
    """Answers with `reply(body)`, while `open` is not set only what `hold` says no to.

    `bodies` are the requests seen, `running` counts those without an answer yet, `most` those at once, and `gone`
    those whose client left. Where `takes_n`, a request gets as many choices as it asks for, which Ollama does not do.
    """

    url: str = ""
    reply: Callable[[Json], str] = field(default=lambda body: str(body["messages"][-1]["content"]))
    status: int = 200
    hold: Callable[[Json], bool] = field(default=lambda _: True)
    takes_n: bool = False
    bodies: list[Json] = field(default_factory=list)
    running: int = 0
    most: int = 0
    gone: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """Be as if new: answer everything at once with its own prompt, and count from 0."""
        new = ScriptedOllama()
        self.reply, self.status, self.hold, self.takes_n = new.reply, new.status, new.hold, new.takes_n
        self.bodies.clear()
        self.most = self.gone = 0
        self.open.set()

    async def tags(self, _request: web.Request) -> web.Response:
        details = {"family": "llama", "parameter_size": "1M", "quantization_level": "F16"}
        model = {"name": "m:latest", "size": 1, "details": details, "modified_at": "2026-01-01T00:00:00Z"}
        return web.json_response({"models": [model]})

    async def loaded(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": "m:latest", "context_length": 4096}]})

    async def version(self, _request: web.Request) -> web.Response:
        """Say that nothing is cut that is not to be cut, and where it is so that `n` is known, as the engine does."""
        known = ["n", "options", "truncate"] if self.takes_n else ["truncate"]
        return web.json_response({"version": "0.0.0", "extensions": known})

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.hold(body):
                await self.open.wait()
        except asyncio.CancelledError:
            self.gone += 1
            raise
        finally:
            self.running -= 1
        if self.status != 200:
            return web.json_response({"error": {"message": "scripted"}}, status=self.status)
        shape = self._shape(request.path, body)
        return _streamed(shape) if body.get("stream") and "choices" in shape else web.json_response(shape)

    def _shape(self, path: str, body: Json) -> Json:
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        if path == "/v1/embeddings":
            return {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}]}
        if path == "/api/chat":
            message = {"role": "assistant", "content": self.reply({**body, **body.get("options", {})})}
            return {"message": message, "done": True, "prompt_eval_count": 10, "eval_count": 3}
        count = body.get("n", 1) if self.takes_n else 1
        asked = {**body, **body.get("options", {})}
        replies = [self.reply({**asked, "seed": asked["seed"] + index} if index else asked) for index in range(count)]
        choices = [
            {"index": index, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
            for index, reply in enumerate(replies)
        ]
        usage |= {"completion_tokens": 3 * count, "total_tokens": 10 + 3 * count}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return {**head, "choices": choices, "usage": usage}


def _streamed(answer: Json) -> web.Response:
    """The same as a stream: a chunk a choice, then the tokens."""
    head = {**answer, "object": "chat.completion.chunk"}
    chunks = [
        {**head, "choices": [{"index": choice["index"], "delta": choice["message"], "finish_reason": "stop"}]}
        for choice in answer["choices"]
    ]
    for chunk in chunks:
        chunk.pop("usage")
    parts = [*chunks, {**head, "choices": []}]
    content = b"".join(b"data: " + orjson.dumps(part) + b"\n\n" for part in parts) + b"data: [DONE]\n\n"
    return web.Response(body=content, content_type="text/event-stream")


async def version(_request: web.Request) -> web.Response:
    """Say that nothing is cut that is not to be cut, as the engine does."""
    return web.json_response({"version": "0.0.0", "extensions": ["truncate"]})


@asynccontextmanager
async def scripted_ollama() -> AsyncIterator[ScriptedOllama]:
    """Give a running one whose answers come at once until the test closes `open`."""
    server = ScriptedOllama()
    server.open.set()
    app = web.Application()
    app.router.add_get("/api/tags", server.tags)
    app.router.add_get("/api/ps", server.loaded)
    app.router.add_get("/api/version", server.version)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/chat"):
        app.router.add_post(path, server.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = site.name
    try:
        yield server
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Return as soon as `condition` holds; the event loop, and with it the scripted server, goes on meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for is a count, not an event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


def events(text: str) -> list[Json]:
    """Return the events of a stream that ended with its mark."""
    parts = [part.removeprefix("data: ") for part in text.strip().split("\n\n")]
    assert parts[-1] == "[DONE]"
    return [orjson.loads(part) for part in parts[:-1]]
