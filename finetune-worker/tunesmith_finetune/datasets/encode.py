"""Examples as tokens: what the model reads, and which of the tokens it learns to write.

A conversation is cut at the points where serving would hand over to the model. The text up to there is exactly the
prompt that serving renders; the assistant's words after it, up to and with the token that ends its turn, are learnt.
Each piece is made into tokens by itself, because serving does the same: it never sees a token that spans the border.
Where serving begins a text with a token of its own (`add_bos_token`), so does training, once.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
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

WORD_MARK = "\u2581"
"""How SentencePiece writes the space before a word."""

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


@final
class EncodedAnswer(TypedDict):
    """A rated answer as token ids, with its prompt, and whether people liked it."""

    row: int
    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool


EncodedRow = EncodedExample | EncodedPair | EncodedAnswer


@dataclass
class Encoded:
    """A dataset as tokens: its rows, and the numbers of those that were cut to `max_length` or left out for it."""

    rows: list[EncodedRow] = field(default_factory=list)
    truncated: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)


class Encoder:
    """Makes tokens of examples with the tokenizer and the chat template of a base model's folder."""

    def __init__(self, base_folder: Path) -> None:
        config = json.loads((base_folder / "tokenizer_config.json").read_text())
        special = {name: config[name] for name in SPECIAL_TOKENS if config.get(name)}
        self._tokenizer = Tokenizer.from_file(str(base_folder / "tokenizer.json"))
        self._template = ChatTemplate((base_folder / "chat_template.jinja").read_text(), special)
        self._end = special["eos_token"]
        self._bos = special.get("bos_token", "")
        self._start = self.tokens(self._bos) if config.get("add_bos_token") else []
        first = self._tokenizer.encode("a", add_special_tokens=False).tokens
        self._marks_words = bool(first) and first[0].startswith(WORD_MARK)

    def tokens(self, text: str) -> list[int]:
        """Return the ids of `text`, in which special tokens are recognised, and nothing is added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode(self, example: Example) -> EncodedRow:
        """Return the tokens of one example. Raises `RowProblem` when the template refuses the chat."""
        answers = [text for text in (example["chosen"], example["rejected"]) if text is not None]
        if len(answers) == 2:
            return self._encode_pair(example)
        return self._encode_answer(example) if answers else self.encode_chat(example)

    def encode_chat(self, example: Example) -> EncodedExample:
        """Return the tokens and labels of a chat or a text. Raises `RowProblem` when the template refuses the chat."""
        input_ids: list[int] = list(self._start)
        labels: list[int] = [NOT_LEARNT] * len(input_ids)
        before = ""
        for text, learnt in self.pieces(example):
            ids = self._after(input_ids, before, text)
            input_ids += ids
            labels += ids if learnt else [NOT_LEARNT] * len(ids)
            before += text
        return EncodedExample(row=example["row"], input_ids=input_ids, labels=labels)

    def _encode_pair(self, example: Example) -> EncodedPair:
        (prompt, _), (liked, _), _, (other, _) = self.pieces(example)
        prompt_ids = [*self._start, *self._after(self._start, "", prompt)]
        liked_ids, other_ids = (self._after(prompt_ids, prompt, words) for words in (liked, other))
        return EncodedPair(row=example["row"], prompt_ids=prompt_ids, chosen_ids=liked_ids, rejected_ids=other_ids)

    def _encode_answer(self, example: Example) -> EncodedAnswer:
        (prompt, _), (words, _) = self.pieces(example)
        prompt_ids = [*self._start, *self._after(self._start, "", prompt)]
        answer_ids, liked = self._after(prompt_ids, prompt, words), example["chosen"] is not None
        return EncodedAnswer(row=example["row"], prompt_ids=prompt_ids, completion_ids=answer_ids, label=liked)

    def _after(self, ids: list[int], before: str, text: str) -> list[int]:
        """Return the ids of `text` after those of the text `before`, as the model is to write them there.

        Vocabularies that mark words by a space before them (SentencePiece) would put one at the start of every piece;
        of those, the whole text is cut, and what follows `ids` is taken where it begins with them.
        """
        if not before:
            return self.tokens(text.removeprefix(self._bos) if self._start else text)
        if not self._marks_words:
            return self.tokens(text)
        whole = [*self._start, *self._after(self._start, "", before + text)]
        return whole[len(ids) :] if whole[: len(ids)] == ids else self.tokens(text)

    def pieces(self, example: Example) -> Iterator[tuple[str, bool]]:
        """Yield what the model reads of an example, in pieces: text, and whether it is learnt."""
        if example["messages"] is None:
            yield f"{example['text']}{self._end}", True
            return
        answers = [text for text in (example["chosen"], example["rejected"]) if text is not None]
        if not answers:
            yield from self._turns(example["messages"])
            return
        for answer in answers:
            prompt, words, end = self._answered(example["messages"], Message(role="assistant", content=answer))
            yield prompt, False
            yield words + end, True

    def _turns(self, messages: list[Message]) -> Iterator[tuple[str, bool]]:
        position = 0
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt, words, end = self._answered(messages[:index], message)
            yield prompt[position:], False
            yield words + (end if index == len(messages) - 1 else ""), True
            position = len(prompt) + len(words)

    def _answered(self, messages: list[Message], answer: Message) -> tuple[str, str, str]:
        """Return the prompt that serving renders for `messages`, `answer` up to and with the end of its turn, and the
        token that ends the text where the template's turns end with something else.
        """
        try:
            prompt = self._template.prompt(messages)
            answered = self._template.conversation([*messages, answer])
        except TemplateError as error:
            raise RowProblem(f"the model's chat template refuses it ({error})", "invalid_row") from error
        if not answered.startswith(prompt):
            raise RowProblem("the model's chat template changes earlier messages", "invalid_row")
        words, end, _ = answered[len(prompt) :].rpartition(self._end)
        return (prompt, f"{words}{end}", "") if end else (prompt, answered[len(prompt) :].rstrip(), self._end)


def encode_dataset(
    encoder: Encoder, examples: Iterable[Example], source: Source, max_length: int, long_rows: str
) -> Encoded:
    """Return all examples as tokens. A row longer than `max_length` tokens is cut, or left out, if `long_rows` is
    "truncate" or "skip". Raises `BadRequest` with the rows that the template refuses, and else with those too long.
    """
    problems = Problems(source.filename, source.param)
    encoded = Encoded()
    for example in examples:
        try:
            tokens = encoder.encode(example)
        except RowProblem as problem:
            problems.add(example["row"], problem)
            continue
        if longest_text(tokens) <= max_length:
            encoded.rows.append(tokens)
        elif long_rows == "truncate" and (cut := truncated(tokens, max_length)) is not None:
            encoded.rows.append(cut)
            encoded.truncated.append(example["row"])
        elif long_rows == "refuse":
            message = f"longer than max_length, {max_length} tokens; shorten it, raise max_length or set long_rows"
            problems.add(example["row"], RowProblem(message, "row_too_long"))
        else:
            encoded.skipped.append(example["row"])
    problems.raise_if_any()
    if not encoded.rows:
        raise source.refuse(f"every row is longer than max_length, {max_length} tokens.", "row_too_long")
    return encoded


def truncated(row: EncodedRow, max_length: int) -> EncodedRow | None:
    """Return `row` with its answers cut, so that no text is longer than `max_length` tokens; None when nothing that
    could be learnt is left.
    """
    if "input_ids" in row:
        labels = row["labels"][:max_length]
        learnt = any(label != NOT_LEARNT for label in labels)
        ids = row["input_ids"][:max_length]
        return EncodedExample(row=row["row"], input_ids=ids, labels=labels) if learnt else None
    room = max_length - len(row["prompt_ids"])
    if room <= 0:
        return None
    if "completion_ids" in row:
        return {**row, "completion_ids": row["completion_ids"][:room]}
    if row["chosen_ids"][:room] == row["rejected_ids"][:room]:
        return None
    return {**row, "chosen_ids": row["chosen_ids"][:room], "rejected_ids": row["rejected_ids"][:room]}


def longest_text(row: EncodedRow) -> int:
    """Return the tokens of the longest text that the model reads for `row`."""
    if "input_ids" in row:
        return len(row["input_ids"])
    if "completion_ids" in row:
        return len(row["prompt_ids"]) + len(row["completion_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def count_tokens(row: EncodedRow) -> tuple[int, int]:
    """Return how many tokens the model reads for `row`, and how many of them are learnt from."""
    if "input_ids" in row:
        return len(row["input_ids"]), sum(label != NOT_LEARNT for label in row["labels"])
    if "completion_ids" in row:
        return longest_text(row), len(row["completion_ids"])
    answers = len(row["chosen_ids"]) + len(row["rejected_ids"])
    return 2 * len(row["prompt_ids"]) + answers, answers
