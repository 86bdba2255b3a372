"""Examples as tokens: what the model reads, and which of the tokens it learns to write.

A conversation is cut at the points where serving would hand over to the model. The text up to there is exactly the
prompt that serving renders; the assistant's words after it, up to and with the token that ends its turn, are learnt.
Each piece is made into tokens by itself, because serving does the same: it never sees a token that spans the border.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict, final

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


@final
class EncodedExample(TypedDict):
    """A row as token ids, and the labels: the same ids where they are learnt, else `NOT_LEARNT`."""

    row: int
    input_ids: list[int]
    labels: list[int]


@final
class EncodedPair(TypedDict):
    """A pair as token ids: the prompt, and the two answers that may follow it."""

    row: int
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


EncodedRow = EncodedExample | EncodedPair


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

    def encode_pair(self, example: Example) -> EncodedPair:
        """Return the tokens of a pair of answers. Raises `RowProblem` when the template refuses the chat."""
        prompt, answers = example["messages"] or [], (example["chosen"] or "", example["rejected"] or "")
        chosen, rejected = (self._answered(prompt, Message(role="assistant", content=answer)) for answer in answers)
        return EncodedPair(
            row=example["row"],
            prompt_ids=self.tokens(chosen[0]),
            chosen_ids=self.tokens(chosen[1]),
            rejected_ids=self.tokens(rejected[1]),
        )

    def _pieces(self, messages: list[Message]) -> Iterator[tuple[str, bool]]:
        """Yield the conversation in pieces: text and whether it is learnt."""
        position = 0
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt, answer = self._answered(messages[:index], message)
            yield prompt[position:], False
            yield answer, True
            position = len(prompt) + len(answer)

    def _answered(self, messages: list[Message], answer: Message) -> tuple[str, str]:
        """Return the prompt that serving renders for `messages`, and `answer` up to and with the end of its turn."""
        try:
            prompt = self._template.prompt(messages)
            answered = self._template.conversation([*messages, answer])
        except TemplateError as error:
            raise RowProblem(f"the model's chat template refuses it ({error})", "invalid_row") from error
        if not answered.startswith(prompt):
            raise RowProblem("the model's chat template changes earlier messages", "invalid_row")
        words, end, _ = answered[len(prompt) :].rpartition(self._end)
        return prompt, (f"{words}{end}" if end else f"{answered[len(prompt) :]}{self._end}")


def encode_dataset(encoder: Encoder, examples: Iterable[Example], source: Source, max_length: int) -> list[EncodedRow]:
    """Return all examples as tokens. Raises `BadRequest` with the rows that are longer than `max_length` tokens."""
    problems = Problems(source.filename, source.param)
    encoded: list[EncodedRow] = []
    for example in examples:
        try:
            tokens = encoder.encode(example) if example["chosen"] is None else encoder.encode_pair(example)
        except RowProblem as problem:
            problems.add(example["row"], problem)
            continue
        if longest_text(tokens) > max_length:
            message = f"longer than max_length, {max_length} tokens; shorten it or raise max_length"
            problems.add(example["row"], RowProblem(message, "row_too_long"))
        encoded.append(tokens)
    problems.raise_if_any()
    return encoded


def longest_text(row: EncodedRow) -> int:
    """Return the tokens of the longest text that the model reads for `row`."""
    if "input_ids" in row:
        return len(row["input_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def count_tokens(row: EncodedRow) -> tuple[int, int]:
    """Return how many tokens the model reads for `row`, and how many of them are learnt from."""
    if "input_ids" in row:
        return len(row["input_ids"]), sum(label != NOT_LEARNT for label in row["labels"])
    answers = len(row["chosen_ids"]) + len(row["rejected_ids"])
    return 2 * len(row["prompt_ids"]) + answers, answers
