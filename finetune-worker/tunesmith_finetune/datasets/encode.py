"""Examples as tokens: what the model reads, and which of the tokens it learns to write.

A conversation is cut at the points where serving would hand over to the model. The text up to there is exactly the
prompt that serving renders; the assistant's words after it, up to and with the token that ends its turn, are learnt.
Each piece is made into tokens by itself, because serving does the same: it never sees a token that spans the border.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

from jinja2 import TemplateError
from tokenizers import Tokenizer

from tunesmith_finetune.chat_template import ChatTemplate
from tunesmith_finetune.datasets.cells import Message
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.datasets.problems import Problems, RowProblem
from tunesmith_finetune.datasets.source import Source

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")

NOT_LEARNT = -100
"""The label of a token that does not count in the loss (PyTorch's `ignore_index`)."""


class EncodedExample(TypedDict):
    """A row as token ids, and the labels: the same ids where they are learnt, else `NOT_LEARNT`."""

    row: int
    input_ids: list[int]
    labels: list[int]


class Encoder:
    """Makes tokens of examples with the tokenizer and the chat template of a base model's folder."""

    def __init__(self, base_folder: Path) -> None:
        config = json.loads((base_folder / "tokenizer_config.json").read_text())
        special = {name: config[name] for name in SPECIAL_TOKENS if config.get(name)}
        self._tokenizer = Tokenizer.from_file(str(base_folder / "tokenizer.json"))
        self._template = ChatTemplate((base_folder / "chat_template.jinja").read_text(), special)
        self._end = special["eos_token"]

    def tokens(self, text: str) -> list[int]:
        """Return the ids of `text`, in which special tokens are recognised, and nothing is added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode(self, example: Example) -> EncodedExample:
        """Return the tokens and labels of one example. Raises `RowProblem` when the template refuses the chat."""
        if example["messages"] is None:
            ids = self.tokens(f"{example['text']}{self._end}")
            return EncodedExample(row=example["row"], input_ids=ids, labels=list(ids))
        input_ids: list[int] = []
        labels: list[int] = []
        for text, learnt in self._pieces(example["messages"]):
            ids = self.tokens(text)
            input_ids += ids
            labels += ids if learnt else [NOT_LEARNT] * len(ids)
        return EncodedExample(row=example["row"], input_ids=input_ids, labels=labels)

    def _pieces(self, messages: list[Message]) -> Iterator[tuple[str, bool]]:
        """Yield the conversation in pieces: text and whether it is learnt."""
        position = 0
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            try:
                prompt = self._template.prompt(messages[:index])
                answered = self._template.conversation(messages[: index + 1])
            except TemplateError as error:
                raise RowProblem(f"the model's chat template refuses it ({error})", "invalid_row") from error
            if not answered.startswith(prompt):
                raise RowProblem("the model's chat template changes earlier messages", "invalid_row")
            answer, end, _ = answered[len(prompt) :].rpartition(self._end)
            yield prompt[position:], False
            yield (f"{answer}{end}" if end else f"{answered[len(prompt) :]}{self._end}"), True
            position = len(prompt) + len(answer) + len(end)


def encode_dataset(
    encoder: Encoder, examples: Iterable[Example], source: Source, max_length: int
) -> list[EncodedExample]:
    """Return all examples as tokens. Raises `BadRequest` with the rows that are longer than `max_length` tokens."""
    problems = Problems(source.filename, source.param)
    encoded: list[EncodedExample] = []
    for example in examples:
        try:
            tokens = encoder.encode(example)
        except RowProblem as problem:
            problems.add(example["row"], problem)
            continue
        if len(tokens["input_ids"]) > max_length:
            message = f"longer than max_length, {max_length} tokens; shorten it or raise max_length"
            problems.add(example["row"], RowProblem(message, "row_too_long"))
        encoded.append(tokens)
    problems.raise_if_any()
    return encoded
