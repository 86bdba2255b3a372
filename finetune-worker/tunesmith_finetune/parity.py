"""Are a job's own prompts the same in training and serving: the text, and the tokens made of it.

The served side is asked: the server renders the chat with the finished model's template, and llama.cpp's own tokenizer,
with the finished model's vocabulary, makes tokens of the result. The trained side is what the rows were encoded with.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tunesmith_finetune.datasets.cells import Message
from tunesmith_finetune.datasets.encode import NOT_LEARNT, Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.llama_cpp import LlamaCpp
from tunesmith_finetune.processes import Limits, run_child

PROMPTS = 5
"""How many prompts of a job are compared: the first ones of its rows."""

Render = Callable[[Sequence[Message]], Awaitable[str | None]]
Tokenise = Callable[[str], Awaitable[list[int]]]


def first_turn(example: Example) -> list[Message]:
    """Return what is said before the answer that is learnt first; nothing for a text without turns."""
    messages = example["messages"] or []
    if example["chosen"] is not None or example["rejected"] is not None:
        return messages
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: answers[0]] if answers else messages


def first_answer(example: Example) -> str | None:
    """Return the answer that the dataset has for `first_turn`: of preferences, the better one."""
    if example["chosen"] is not None or example["rejected"] is not None:
        return example["chosen"]
    return next((message["content"] for message in example["messages"] or [] if message["role"] == "assistant"), None)


def trained_prompt(encoder: Encoder, example: Example) -> list[int]:
    """Return the tokens before the assistant's first answer, as the model was trained on them."""
    row = encoder.encode(example)
    if "prompt_ids" in row:
        return row["prompt_ids"]
    learnt = next((index for index, label in enumerate(row["labels"]) if label != NOT_LEARNT), len(row["labels"]))
    return row["input_ids"][:learnt]


async def compare(encoder: Encoder, examples: Sequence[Example], render: Render, tokenise: Tokenise) -> dict[str, Any]:
    """Return how many prompts were `compared`, and which are `different`, each with its text and the first token."""
    different: list[dict[str, Any]] = []
    compared = 0
    for example in [example for example in examples if first_turn(example)][:PROMPTS]:
        served = await render(first_turn(example))
        if served is None:
            return {"compared": 0, "different": [], "reason": "the server does not tell how it renders a chat"}
        compared += 1
        ours, theirs = trained_prompt(encoder, example), await tokenise(served)
        if ours != theirs:
            shorter = min(len(ours), len(theirs))
            at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), shorter)
            different.append({"served": served, "at": at, "trained_tokens": len(ours), "served_tokens": len(theirs)})
    return {"compared": compared, "different": different, "reason": "the rows are texts without turns"}


async def served_tokens(tools: LlamaCpp, gguf: Path, text: str, scratch: Path, log: Path, limits: Limits) -> list[int]:
    """Return the tokens that llama.cpp makes of a rendered prompt with the vocabulary of `gguf`."""
    lines: list[str] = []

    async def hear(line: str) -> None:
        lines.append(line)

    await asyncio.to_thread(scratch.write_text, text, encoding="utf-8")
    command = [str(tools.tool("llama-tokenize")), "-m", str(gguf), "-f", str(scratch), "--ids", "--log-disable"]
    try:
        await run_child(command, title="Making tokens of a prompt", log=log, limits=limits, on_line=hear)
    finally:
        await asyncio.to_thread(scratch.unlink)
    ids: list[int] = json.loads(lines[-1])
    return ids
