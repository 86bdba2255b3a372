"""Filling in the middle: what comes between a text and the one after it, for models that were trained for it.

Such a model's vocabulary has three marks, and its prompt is the first mark, the text before, the second, the text
after, the third (Bavarian et al. 2022, arXiv:2207.14255). A GGUF names the marks, or they are known by their text, as
llama.cpp knows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith_engine.process import ContextExceeded, ModelProcess
from tunesmith_engine.truncation import tokenize
from tunesmith_shared.store import GgufValue

Json = dict[str, object]

_KEYS = (
    ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"),
    ("tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"),
    ("tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"),
)
# Of Qwen, StarCoder, Granite, DeepSeek, Code Llama, GLM and Falcon, in this order.
_TEXTS = (
    ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>"),
    ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>"),
    ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "▁<MID>", "<|code_middle|>", "<|middle|>"),
)
_MARKS = 4  # the three, and a start token
_AFTER = 4  # one token of so many is of the text after, where both texts are too long


@dataclass(frozen=True, slots=True)
class Marks:
    """The tokens that a model knows the three parts by, and the one that starts every prompt, where it has one."""

    before: int
    after: int
    middle: int
    start: int | None


@dataclass(frozen=True, slots=True)
class Insertion:
    """What is asked for: the text between ``before`` and ``after``."""

    marks: Marks
    before: str
    after: str


def insert_marks(metadata: Mapping[str, GgufValue]) -> Marks | None:
    """The marks of the model with these metadata, vocabulary among them; None when it was not trained to fill in."""
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    tokens: Sequence[object] = vocabulary if isinstance(vocabulary, list) else []
    found = [_mark(metadata, tokens, keys, texts) for keys, texts in zip(_KEYS, _TEXTS, strict=True)]
    start = metadata.get("tokenizer.ggml.bos_token_id") if metadata.get("tokenizer.ggml.add_bos_token") else None
    before, after, middle = found
    if before is None or after is None or middle is None:
        return None
    return Marks(before, after, middle, start if isinstance(start, int) else None)


def _mark(
    metadata: Mapping[str, GgufValue], tokens: Sequence[object], keys: tuple[str, ...], texts: tuple[str, ...]
) -> int | None:
    named = [value for key in keys if isinstance(value := metadata.get(key), int)]
    if named:
        return named[0]
    return next((tokens.index(text) for text in texts if text in tokens), None)


async def inserting(process: ModelProcess, insertion: Insertion, body: Json, num_ctx: int, *, truncate: bool) -> Json:
    """The request with the prompt of an insertion. Marks in the texts are text.

    Of texts that are too long the parts far from the gap are left out, or ContextExceeded is raised.
    """
    before = await tokenize(process, insertion.before, start=False, special=False)
    after = await tokenize(process, insertion.after, start=False, special=False)
    if len(before) + len(after) + _MARKS >= num_ctx:
        if not truncate:
            raise ContextExceeded(len(before) + len(after) + _MARKS, num_ctx)
        room = num_ctx // 2
        after = after[: max(room // _AFTER, room - len(before))]
        before = before[-(room - len(after)) :]
    marks = insertion.marks
    start = [] if marks.start is None else [marks.start]
    return {**body, "prompt": [*start, marks.before, *before, marks.after, *after, marks.middle]}
