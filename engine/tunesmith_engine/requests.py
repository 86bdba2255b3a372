"""The bodies of Ollama's ``/api/generate`` and ``/api/chat``."""

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_shared.errors import BadRequest

Json = dict[str, object]

_MOST_LOGPROBS = 20


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
    logprobs: bool = False
    top_logprobs: int = 0

    @property
    def shortens(self) -> bool:
        """Whether a prompt that is too long is cut; Ollama refuses it when either field says no."""
        return self.truncate and self.shift

    def check(self) -> None:
        """Refuse what this engine does not do. Raises BadRequest."""
        if not 0 <= self.top_logprobs <= _MOST_LOGPROBS:
            raise BadRequest(f"top_logprobs must be between 0 and {_MOST_LOGPROBS}", param="top_logprobs")


class GenerateRequest(CompletionRequest):
    """``POST /api/generate``. ``context`` is what an earlier answer gave: the conversation so far, in tokens."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    images: list[str] = []
    context: list[int] | None = None

    def check(self) -> None:
        """Refuse what this engine does not do. Raises BadRequest."""
        super().check()
        if self.raw and (self.template or self.system or self.context):
            raise BadRequest("raw mode does not support template, system, or context", param="raw")
        if self.template:
            raise BadRequest("Go templates are not rendered here; use raw with a whole prompt", param="template")
        if self.images:
            raise BadRequest("this engine does not take images; leave 'images' out", param="images")


class ChatRequest(CompletionRequest):
    """``POST /api/chat``."""

    messages: list[Json] = []
    tools: list[Json] = []
