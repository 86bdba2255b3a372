"""Ollama's ``options``: their types, defaults and names in llama.cpp."""

from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith_shared.errors import BadRequest, TunesmithError

Options = dict[str, object]

_INTEGERS = {
    "num_ctx", "num_predict", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "top_k", "seed",
    "repeat_last_n", "draft_num_predict",
}  # fmt: skip
_FLOATS = {
    "temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty",
}  # fmt: skip
_BOOLEANS = {"use_mmap", "numa", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock", "penalize_newline"}

DEFAULTS: Options = {
    "num_keep": 4,
    "num_predict": -1,
    "seed": -1,
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "stop": [],
}

# What one request may say differs from what a model is loaded with (num_ctx, num_thread).
_LLAMA_NAMES = {
    "num_keep": "n_keep",
    "seed": "seed",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_last_n": "repeat_last_n",
    "repeat_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop": "stop",
}

# llama.cpp rounds a context up to whole steps; doing it here keeps what is shown and counted true.
_CONTEXT_STEP = 256

# Ollama ends a generation without a limit after ten times the context, so that a loop ends.
_ENDLESS_CONTEXTS = 10


class InvalidOption(TunesmithError):
    """An option has the wrong type; a 500 in Ollama, which clients know."""

    status = 500
    type = "invalid_request_error"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The options that a model is loaded with; another value means another load."""

    num_ctx: int
    num_thread: int
    shift: bool = True


def check_options(options: Mapping[str, object]) -> Options:
    """The known options with Go's number conversions. Raises InvalidOption; unknown ones are ignored."""
    checked: Options = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in _INTEGERS:
            checked[name] = int(_number(name, value, "integer"))
        elif name in _FLOATS:
            checked[name] = float(_number(name, value, "float32"))
        elif name == "stop":
            checked[name] = _stops(value)
        elif name in _BOOLEANS and not isinstance(value, bool):
            raise InvalidOption(f'option "{name}" must be of type boolean', param=name)
    return checked


def _number(name: str, value: object, kind: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(f'option "{name}" must be of type {kind}', param=name)
    return value


def _stops(value: object) -> list[str]:
    if not isinstance(value, list):
        raise InvalidOption('option "stop" must be of type array', param="stop")
    if not all(isinstance(item, str) for item in value):
        raise InvalidOption('option "stop" must be of an array of strings', param="stop")
    return value


def merge_options(model_parameters: Mapping[str, object], request_options: Mapping[str, object]) -> Options:
    """Defaults, then the model's own parameters, then the request's options."""
    return {**DEFAULTS, **check_options(model_parameters), **check_options(request_options)}


def llama_sampling(options: Options, num_ctx: int) -> Options:
    """The request fields of llama.cpp's server for merged options; ``num_ctx`` is the loaded context's size."""
    sampling: Options = {theirs: options[ours] for ours, theirs in _LLAMA_NAMES.items() if ours in options}
    limit = options["num_predict"]
    endless = not isinstance(limit, int) or limit < 0
    sampling["n_predict"] = num_ctx * _ENDLESS_CONTEXTS if endless else limit
    return sampling


def load_options(options: Options, *, shift: bool, model_context: int | None, default: LoadOptions) -> LoadOptions:
    """What to load a model with; the context is bounded by what the model was trained on. Raises BadRequest."""
    num_ctx, num_thread = options.get("num_ctx"), options.get("num_thread")
    context = num_ctx if isinstance(num_ctx, int) else default.num_ctx
    if context < 1:
        raise BadRequest(f"num_ctx must be at least 1 and is {context}", param="num_ctx")
    context = -(-context // _CONTEXT_STEP) * _CONTEXT_STEP
    threads = num_thread if isinstance(num_thread, int) and num_thread > 0 else default.num_thread
    return LoadOptions(min(context, model_context or context), threads, shift)
