"""Ollama's generate and chat: one path for both, streamed piece by piece."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from tunesmith_engine.answers import Answer
from tunesmith_engine.completions import CHAT_PATH, TEXT_PATH, Piece, stream_pieces
from tunesmith_engine.inference import Inference, Job, require_completion, require_name, require_tools, with_insertion
from tunesmith_engine.insert import inserting
from tunesmith_engine.messages import openai_messages, raw_format, response_format, with_model_messages
from tunesmith_engine.options import Options, llama_sampling
from tunesmith_engine.process import ContextExceeded, ModelProcess
from tunesmith_engine.requests import ChatRequest, GenerateRequest
from tunesmith_engine.truncation import rendered, tokenize, truncate_chat, truncate_prompt
from tunesmith_shared.errors import BadRequest, TunesmithError

Json = dict[str, object]


async def answer_lines(inference: Inference, request: GenerateRequest | ChatRequest) -> AsyncIterator[Json]:
    """The lines of an answer. Errors before the first line are raised, later ones become a last error line."""
    answer = Answer(request)
    if isinstance(request, ChatRequest):
        require_name(request.model)
    empty = not (request.prompt if isinstance(request, GenerateRequest) else request.messages)
    job = await inference.prepare(request.model, request.options, request.keep_alive, shift=request.shift)
    require_completion(job, "generate" if isinstance(request, GenerateRequest) else "chat")
    request.check()
    if empty and job.demand.keep_alive == 0:
        await inference.unload(job)
        yield answer.bare("unload")
        return
    if isinstance(request, GenerateRequest) and request.suffix and not request.raw:
        job = with_insertion(job, request.prompt, request.suffix)
    path, body = request_body(job, request)
    async with inference.run(job) as loaded:
        answer.loaded()
        if empty:
            yield answer.bare("load")
            return
        if request.debug_render_only:
            yield {**answer.bare("stop"), "_debug_info": {"rendered_template": await rendered(loaded.process, body)}}
            return
        with contextlib.closing(await loaded.slots.take()):
            async with contextlib.aclosing(_answered(answer, loaded.process, path, body, job, request)) as lines:
                async for line in lines:
                    yield line


async def _answered(
    answer: Answer, process: ModelProcess, path: str, body: Options, job: Job, request: GenerateRequest | ChatRequest
) -> AsyncGenerator[Json, None]:
    """The lines of a generation. The last of one that is not raw has the conversation in tokens, to go on with."""
    if job.insertion is not None:
        body = await inserting(process, job.insertion, body, job.num_ctx, truncate=request.shortens)
    elif isinstance(request, GenerateRequest) and request.context:
        path, body = TEXT_PATH, await _continued(process, body, request)
    said: list[str] = []
    async with contextlib.aclosing(_lines(answer, fitted_pieces(process, path, body, job, request.shortens))) as lines:
        async for line in lines:
            if isinstance(request, GenerateRequest) and not request.raw:
                said.append(str(line.get("response", "")))
                if line.get("done"):
                    line["context"] = await _conversation(process, body, "".join(said))
            yield line


async def _continued(process: ModelProcess, body: Options, request: GenerateRequest) -> Options:
    """The request behind an earlier conversation's tokens."""
    tokens = await tokenize(process, await rendered(process, body), start=False)
    others = {name: value for name, value in body.items() if name not in ("messages", "response_format")}
    return {**others, **raw_format(request.format), "prompt": [*(request.context or ()), *tokens]}


async def _conversation(process: ModelProcess, body: Options, said: str) -> list[int]:
    """The tokens of a prompt and its answer."""
    if isinstance(prompt := body.get("prompt"), list):
        return [*prompt, *await tokenize(process, said, start=False)]
    return await tokenize(process, await rendered(process, body) + said)


async def _lines(answer: Answer, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Json, None]:
    """A line a piece; tool calls have a line of their own before the last. A failure after the first is a line, too."""
    begun = False
    try:
        async with contextlib.aclosing(pieces):
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
    if request.logprobs:
        sampling["n_probs"] = max(1, request.top_logprobs)
    if isinstance(request, GenerateRequest):
        if request.raw or job.insertion is not None or job.model.chat_template is None:
            system = "" if request.raw else (request.system or job.model.system)
            prompt = f"{system}\n\n{request.prompt}" if system else request.prompt
            return TEXT_PATH, {"prompt": prompt, **sampling, **raw_format(request.format)}
        system_message: list[Json] = [{"role": "system", "content": request.system}] if request.system else []
        messages: list[Json] = [*system_message, {"role": "user", "content": request.prompt}]
    else:
        messages = request.messages
    goes_on = isinstance(request, GenerateRequest) and request.context is not None
    combined = with_model_messages(messages, job.model.system, () if goes_on else job.model.messages)
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
