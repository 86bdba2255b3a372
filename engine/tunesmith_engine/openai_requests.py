"""OpenAI's chat and completion requests, and what llama.cpp's server is asked for them."""

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_engine.forced_calls import binding, chosen_tools
from tunesmith_engine.inference import Inference, Job, require_completion, require_name, require_tools, with_insertion
from tunesmith_engine.messages import with_model_messages
from tunesmith_engine.options import Options, llama_sampling
from tunesmith_shared.errors import BadRequest

Json = dict[str, object]

_SAMPLING = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")
_CHAT_FIELDS = (
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs", "logit_bias",
    "stream_options",
)  # fmt: skip
_TEXT_FIELDS = ("logprobs", "logit_bias", "stream_options")


class OpenAIRequest(BaseModel):
    """What chat and completions have in common. Ollama has no ``n``; ``truncate`` and Ollama's ``options`` are
    extensions.
    """

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    stream: bool = False
    stream_options: Json | None = None
    n: int = Field(default=1, ge=1, le=128)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    logit_bias: Json | None = None
    truncate: bool = True
    native: Options | None = Field(default=None, alias="options")

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be a tool call."""
        return False

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the tokens that it took."""
        return bool((self.stream_options or {}).get("include_usage"))

    def options(self) -> Options:
        """The request as Ollama's options. A missing temperature or top_p is 1, whatever the model's parameters say,
        where the request has no ``options``; these win over OpenAI's fields.
        """
        options: Options = {"temperature": 1.0, "top_p": 1.0} if self.native is None else {}
        options |= {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        if self.stop is not None:
            options["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        if self.max_tokens is not None:
            options["num_predict"] = self.max_tokens
        return {**options, **(self.native or {})}

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

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be a tool call."""
        return self.tool_choice not in (None, "auto", "none")

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
    require_name(request.model)
    job = await inference.prepare(request.model, request.options(), None)
    require_completion(job, "chat")
    if request.tools:
        require_tools(job)
    messages = with_model_messages(request.messages, job.model.system, job.model.messages)
    body: Options = {"messages": messages, **llama_sampling(job.options, job.num_ctx)}
    must_call = chosen_tools(request.tool_choice, request.tools or [])
    return job, {**body, **request.passed_on(_CHAT_FIELDS), **(binding(must_call) if must_call else {})}


async def prepare_text(inference: Inference, request: OpenAITextRequest) -> tuple[Job, Options]:
    """The job and llama.cpp's body. Raises NotFound, BadRequest."""
    job = await inference.prepare(request.model, request.options(), None)
    require_completion(job, "generate")
    prompt = request.prompt
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        if len(prompt) > 1:
            raise BadRequest(
                "one prompt a request is supported; send the others in requests of their own", param="prompt"
            )
        prompt = prompt[0]
    if request.suffix:
        if not isinstance(prompt, str):
            raise BadRequest("with a suffix the prompt must be a text", param="prompt")
        job = with_insertion(job, prompt, request.suffix)
    body: Options = {"prompt": prompt, **llama_sampling(job.options, job.num_ctx)}
    return job, {**body, **request.passed_on(_TEXT_FIELDS)}
