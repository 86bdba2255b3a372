"""Ollama's generate and chat: one path for both, streamed piece by piece."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_engine.completions import CHAT_PATH, TEXT_PATH, Piece, Timings, stream_pieces
from tunesmith_engine.inference import Inference, Job, require_completion, require_tools
from tunesmith_engine.messages import openai_messages, raw_format, response_format, with_model_messages
from tunesmith_engine.models import timestamp
from tunesmith_engine.options import Options, llama_sampling
from tunesmith_engine.process import ContextExceeded, ModelProcess
from tunesmith_engine.truncation import truncate_chat, truncate_prompt
from tunesmith_shared.errors import BadRequest, TunesmithError

Json = dict[str, object]


class CompletionRequest(BaseModel):
    """What generate and chat have in common."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    stream: bool = True
    format: str | Json | list[object] | float | None = None
    options: Json | None = None
    keep_alive: str | float | None = None
    think: bool | str | None = None
    truncate: bool = True
    shift: bool = True
    debug_render_only: bool = Field(default=False, alias="_debug_render_only")


class GenerateRequest(CompletionRequest):
    """``POST /api/generate``."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    images: list[str] = []

    def check(self) -> None:
        """Refuse what this engine does not do. Raises BadRequest."""
        if self.suffix:
            raise BadRequest(f'"{self.model}" does not support insert; leave suffix out', param="suffix")
        if self.template:
            raise BadRequest("Go templates are not rendered here; use raw with a whole prompt", param="template")
        if self.images:
            raise BadRequest("this engine does not take images; leave 'images' out", param="images")


class ChatRequest(CompletionRequest):
    """``POST /api/chat``."""

    messages: list[Json] = []
    tools: list[Json] = []


class Answer:
    """The answer lines of one request; generate and chat differ in how a piece looks."""

    def __init__(self, request: CompletionRequest) -> None:
        self._request = request
        self._started = time.monotonic_ns()
        self._load_ns = 0

    def loaded(self) -> None:
        """Note that the model is there."""
        self._load_ns = time.monotonic_ns() - self._started

    def line(self, piece: Piece) -> Json:
        """One line of the stream; the piece with a finish reason becomes the last one, with statistics."""
        body: Json = {"model": self._request.model, "created_at": timestamp(time.time()), **self._content(piece)}
        if piece.finish_reason is None:
            return {**body, "done": False}
        reason = "length" if piece.finish_reason == "length" else "stop"
        return {**body, "done": True, "done_reason": reason, **self._statistics(piece.timings or Timings())}

    def bare(self, reason: str) -> Json:
        """The only line when a model was loaded or unloaded."""
        body: Json = {"model": self._request.model, "created_at": timestamp(time.time()), **self._content(Piece())}
        return {**body, "done": True, "done_reason": reason}

    def _content(self, piece: Piece) -> Json:
        if isinstance(self._request, ChatRequest):
            message: Json = {"role": "assistant", "content": piece.text}
            if piece.thinking:
                message["thinking"] = piece.thinking
            if piece.tool_calls:
                message["tool_calls"] = piece.tool_calls
            return {"message": message}
        return {"response": piece.text, **({"thinking": piece.thinking} if piece.thinking else {})}

    def _statistics(self, timings: Timings) -> Json:
        """Durations in nanoseconds, as Ollama gives them."""
        return {
            "total_duration": time.monotonic_ns() - self._started,
            "load_duration": self._load_ns,
            "prompt_eval_count": timings.prompt_tokens,
            "prompt_eval_duration": int(timings.prompt_ms * 1e6),
            "eval_count": timings.generated_tokens,
            "eval_duration": int(timings.generated_ms * 1e6),
        }


async def answer_lines(inference: Inference, request: GenerateRequest | ChatRequest) -> AsyncIterator[Json]:
    """The lines of an answer. Errors before the first line are raised, later ones become a last error line."""
    answer = Answer(request)
    empty = not (request.prompt if isinstance(request, GenerateRequest) else request.messages)
    job = await inference.prepare(request.model, request.options, request.keep_alive, shift=request.shift)
    require_completion(job, "generate" if isinstance(request, GenerateRequest) else "chat")
    if empty and job.demand.keep_alive == 0:
        await inference.unload(job)
        yield answer.bare("unload")
        return
    path, body = request_body(job, request)
    async with inference.run(job) as loaded:
        answer.loaded()
        if empty:
            yield answer.bare("load")
            return
        if request.debug_render_only:
            yield {**answer.bare("stop"), "_debug_info": {"rendered_template": await rendered(loaded.process, body)}}
            return
        begun = False
        try:
            async with contextlib.aclosing(fitted_pieces(loaded.process, path, body, job, request.truncate)) as pieces:
                async for piece in pieces:
                    if piece.tool_calls and piece.finish_reason is not None:
                        yield answer.line(Piece(tool_calls=piece.tool_calls))
                        piece.tool_calls = []
                    yield answer.line(piece)
                    begun = True
        except TunesmithError as error:
            if not begun:
                raise
            yield {"error": error.message}


async def rendered(process: ModelProcess, body: Options) -> str:
    """The text that a request's chat becomes by the model's template; a bare prompt stays as it is."""
    if "messages" not in body:
        return str(body["prompt"])
    fields = {key: body[key] for key in ("messages", "tools", "chat_template_kwargs") if key in body}
    return str((await process.call("/apply-template", fields))["prompt"])


async def fitted_pieces(
    process: ModelProcess, path: str, body: Options, job: Job, truncate: bool
) -> AsyncGenerator[Piece, None]:
    """The pieces of a generation whose prompt is shortened when it must and may be. Raises ContextExceeded."""
    try:
        async with contextlib.aclosing(stream_pieces(process, path, body)) as pieces:
            async for piece in pieces:
                yield piece
        return
    except ContextExceeded:
        if not truncate:
            raise
    shortened = await fit(process, path, body, job)
    async with contextlib.aclosing(stream_pieces(process, path, shortened)) as pieces:
        async for piece in pieces:
            yield piece


async def fit(process: ModelProcess, path: str, body: Options, job: Job) -> Options:
    """A request whose prompt fits the job's context."""
    num_keep = job.options["num_keep"]
    keep = num_keep if isinstance(num_keep, int) else 0
    if path == CHAT_PATH:
        return await truncate_chat(process, body, job.num_ctx, keep)
    prompt = body["prompt"]
    assert isinstance(prompt, str | list)  # noqa: S101 - the callers built it
    return {**body, "prompt": await truncate_prompt(process, prompt, job.num_ctx, keep)}


def request_body(job: Job, request: GenerateRequest | ChatRequest) -> tuple[str, Options]:
    """The route of llama.cpp's server and its body. Raises BadRequest for what the model cannot do."""
    sampling = llama_sampling(job.options, job.num_ctx)
    if isinstance(request, GenerateRequest):
        request.check()
        if request.raw or job.model.chat_template is None:
            system = "" if request.raw else (request.system or job.model.system)
            prompt = f"{system}\n\n{request.prompt}" if system else request.prompt
            return TEXT_PATH, {"prompt": prompt, **sampling, **raw_format(request.format)}
        system_message: list[Json] = [{"role": "system", "content": request.system}] if request.system else []
        messages: list[Json] = [*system_message, {"role": "user", "content": request.prompt}]
    else:
        messages = request.messages
    combined = with_model_messages(messages, job.model.system, job.model.messages)
    body: Options = {"messages": openai_messages(combined), **sampling, **response_format(request.format)}
    if isinstance(request, ChatRequest) and request.tools:
        require_tools(job)
        body["tools"] = request.tools
    if request.think is not None:
        body.update(_thinking(job, request.think))
    return CHAT_PATH, body


def _thinking(job: Job, think: bool | str) -> Options:
    if think and "thinking" not in job.model.capabilities:
        raise BadRequest(f'"{job.requested}" does not support thinking', param="think")
    return {"chat_template_kwargs": {"enable_thinking": bool(think)}} if "thinking" in job.model.capabilities else {}


def joined(lines: list[Json]) -> Json:
    """The one answer of ``stream: false``: all text together, the last line's statistics. Raises TunesmithError."""
    last = lines[-1]
    if "error" in last:
        raise TunesmithError(str(last["error"]))
    if "message" not in last:
        return _with_text(last, lines, "response", "thinking")
    messages = [line["message"] for line in lines if isinstance(line["message"], dict)]
    whole = _with_text(messages[-1], messages, "content", "thinking")
    calls = [call for message in messages for call in message.get("tool_calls", [])]
    return {**last, "message": {**whole, **({"tool_calls": calls} if calls else {})}}


def _with_text(last: Json, parts: list[Json], *keys: str) -> Json:
    texts = {key: "".join(str(part.get(key, "")) for part in parts) for key in keys}
    return {**last, **{key: text for key, text in texts.items() if text or key in last}}
