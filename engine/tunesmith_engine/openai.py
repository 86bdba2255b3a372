"""OpenAI's chat and completion requests for llama.cpp's server, whose answers already have OpenAI's shape.

Streams pass through as bytes. Model processes are shared by all names of a model, so they know
themselves by a placeholder; putting the served name there is the only change that is made. Whole
answers are put together from a stream, because llama.cpp notices that a client left only while it writes.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field

from tunesmith_engine.completions import CHAT_PATH, STREAMING, TEXT_PATH
from tunesmith_engine.generate import fit
from tunesmith_engine.inference import Inference, Job, require_completion, require_tools
from tunesmith_engine.messages import with_model_messages
from tunesmith_engine.openai_whole import assemble
from tunesmith_engine.options import Options, llama_sampling
from tunesmith_engine.process import ContextExceeded, ModelProcess
from tunesmith_engine.specification import ALIAS
from tunesmith_shared.errors import BadRequest, TunesmithError, openai_body

Json = dict[str, object]

_SAMPLING = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")
_CHAT_FIELDS = (
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs", "logit_bias",
    "stream_options",
)  # fmt: skip
_EVENT_END = b"\n\n"
_PROGRESS = b'"prompt_progress":{'
_TEXT_FIELDS = ("logprobs", "logit_bias", "stream_options")


class OpenAIRequest(BaseModel):
    """What chat and completions have in common. ``n`` is ignored, as in Ollama. ``truncate`` is an extension."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    stream: bool = False
    stream_options: Json | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    logit_bias: Json | None = None
    truncate: bool = True

    def options(self) -> Options:
        """The request as Ollama's options. A missing temperature or top_p is 1, whatever the model's parameters say."""
        options: Options = {"temperature": 1.0, "top_p": 1.0}
        options |= {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        if self.stop is not None:
            options["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        if self.max_tokens is not None:
            options["num_predict"] = self.max_tokens
        return options

    def passed_on(self, fields: tuple[str, ...]) -> Options:
        """The fields that llama.cpp's server reads as they are."""
        return {name: value for name in fields if (value := getattr(self, name)) is not None}


class OpenAIChatRequest(OpenAIRequest):
    """``POST /v1/chat/completions``."""

    messages: list[Json] = Field(min_length=1)
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    response_format: Json | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    max_completion_tokens: int | None = None

    def options(self) -> Options:
        """As for completions, with the newer name of the limit."""
        limit = {"num_predict": self.max_completion_tokens} if self.max_completion_tokens is not None else {}
        return {**limit, **super().options()}


class OpenAITextRequest(OpenAIRequest):
    """``POST /v1/completions``."""

    prompt: str | list[str] | list[int] | list[list[int]] = ""
    suffix: str | None = None
    logprobs: int | None = None


async def prepare_chat(inference: Inference, request: OpenAIChatRequest) -> tuple[Job, Options]:
    """The job and llama.cpp's body. Raises NotFound, BadRequest."""
    job = await inference.prepare(request.model, request.options(), None)
    require_completion(job, "chat")
    if request.tools:
        require_tools(job)
    messages = with_model_messages(request.messages, job.model.system, job.model.messages)
    body: Options = {"messages": messages, **llama_sampling(job.options, job.num_ctx)}
    return job, {**body, **request.passed_on(_CHAT_FIELDS)}


async def prepare_text(inference: Inference, request: OpenAITextRequest) -> tuple[Job, Options]:
    """The job and llama.cpp's body. Raises NotFound, BadRequest."""
    if request.suffix:
        raise BadRequest(f'"{request.model}" does not support insert; leave suffix out', param="suffix")
    job = await inference.prepare(request.model, request.options(), None)
    require_completion(job, "generate")
    prompt = request.prompt
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        if len(prompt) > 1:
            raise BadRequest(
                "one prompt a request is supported; send the others in requests of their own", param="prompt"
            )
        prompt = prompt[0]
    body: Options = {"prompt": prompt, **llama_sampling(job.options, job.num_ctx)}
    return job, {**body, **request.passed_on(_TEXT_FIELDS)}


async def event_bytes(inference: Inference, job: Job, body: Options, *, truncate: bool) -> AsyncGenerator[bytes, None]:
    """The answer as server-sent events, some at a time. An error after the first byte becomes an error event."""
    begun = False
    try:
        async with contextlib.aclosing(_events(inference, job, body, truncate=truncate)) as parts:
            async for part in parts:
                yield part
                begun = True
    except TunesmithError as error:
        if not begun:
            raise
        yield b"data: " + orjson.dumps(openai_body(error)) + b"\n\n"


async def whole_answer(inference: Inference, job: Job, body: Options, *, truncate: bool) -> Json:
    """The answer as one object. Raises what the stream raises."""
    body = {**body, "stream_options": {"include_usage": True}}
    async with contextlib.aclosing(_events(inference, job, body, truncate=truncate)) as parts:
        stream = b"".join([part async for part in parts])
    lines = (line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {"))
    return assemble([orjson.loads(line) for line in lines])


async def _events(inference: Inference, job: Job, body: Options, *, truncate: bool) -> AsyncGenerator[bytes, None]:
    path = CHAT_PATH if "messages" in body else TEXT_PATH
    body = {**body, **STREAMING}
    async with inference.run(job) as loaded, contextlib.AsyncExitStack() as stack:
        response = await _open(stack, loaded.process, path, body, job, truncate=truncate)
        async for part in served_events(response.content.iter_any(), job.requested):
            yield part


async def _open(
    stack: contextlib.AsyncExitStack, process: ModelProcess, path: str, body: Options, job: Job, *, truncate: bool
) -> aiohttp.ClientResponse:
    """The model process's answer, with the prompt shortened when it must and may be."""
    try:
        return await stack.enter_async_context(process.request(path, body))
    except ContextExceeded:
        if not truncate:
            raise
    return await stack.enter_async_context(process.request(path, await fit(process, path, body, job)))


async def served_events(chunks: AsyncIterator[bytes], name: str) -> AsyncGenerator[bytes, None]:
    """Whole events, with the served name for the placeholder and without progress.

    Generated text can hold neither mark: its quotes are escaped.
    """
    placeholder = b'"model":' + orjson.dumps(ALIAS)
    served = b'"model":' + orjson.dumps(name)
    rest = b""
    async for chunk in chunks:
        data = rest + chunk
        end = data.rfind(_EVENT_END) + len(_EVENT_END)
        if end < len(_EVENT_END):
            rest = data
            continue
        part, rest = data[:end], data[end:]
        if _PROGRESS in part:
            events = (event for event in part.split(_EVENT_END) if event and _PROGRESS not in event)
            part = b"".join(event + _EVENT_END for event in events)
        if part:
            yield part.replace(placeholder, served)
    if rest:
        yield rest.replace(placeholder, served)
