"""Dataset formats, found by their columns, and what each becomes: a chat, plain text, or a pair of answers.

To add a format, write a function from a row's cells to its content and put a `Format` into `FORMATS` under the method
that it is for; the first whose columns are all there is taken.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypedDict

from tunesmith_finetune.datasets.cells import Cells, Message, chat_in, decoded, optional_text, text_of
from tunesmith_finetune.datasets.preferences import (
    Preference,
    openai_preference,
    prompt_chosen_rejected,
    whole_conversations,
)
from tunesmith_finetune.datasets.problems import Problems, RowProblem
from tunesmith_finetune.datasets.reader import read_rows
from tunesmith_finetune.datasets.source import Row, Source


class Example(TypedDict):
    """A row to learn from: `messages` (the assistant's words are learnt), or `text` (all of it is).

    Of a pair, `messages` is what both answers follow, and `chosen` and `rejected` are the answers.
    """

    row: int
    messages: list[Message] | None
    text: str | None
    chosen: str | None
    rejected: str | None


Content = list[Message] | str | Preference


@dataclass(frozen=True)
class Format:
    """A format: its columns (each a tuple of accepted names) and how its rows become examples."""

    name: str
    columns: tuple[tuple[str, ...], ...]
    convert: Callable[[Cells], Content]

    def fits(self, names: set[str]) -> bool:
        """Whether every column is there under one of its names."""
        return all(names.intersection(accepted) for accepted in self.columns)

    @property
    def described(self) -> str:
        """The columns for people: `prompt + response|completion|answer`."""
        return " + ".join("|".join(accepted) for accepted in self.columns)


def read_examples(source: Source, method: str) -> Iterator[Example]:
    """Yield the examples of a dataset for training with `method` (`supervised` or `dpo`).

    Raises `BadRequest`: at once when no format of that method has the columns, and at the end with the numbers of all
    rows that cannot be used.
    """
    problems = Problems(source.filename, source.param)
    chosen: Format | None = None
    for row in read_rows(source):
        chosen = chosen or _choose(source, row, method)
        try:
            content = chosen.convert(row.cells)
        except RowProblem as problem:
            problems.add(row.number, problem)
        except KeyError as missing:
            problems.add(row.number, RowProblem(f"{missing} is missing", "missing_columns"))
        else:
            yield _example(row.number, content)
    problems.raise_if_any()
    if chosen is None:
        raise source.refuse("it has no rows.", "no_rows")


def _example(row: int, content: Content) -> Example:
    if isinstance(content, Preference):
        return Example(row=row, messages=content.prompt, text=None, chosen=content.chosen, rejected=content.rejected)
    messages, text = (None, content) if isinstance(content, str) else (content, None)
    return Example(row=row, messages=messages, text=text, chosen=None, rejected=None)


def _choose(source: Source, row: Row, method: str) -> Format:
    names = set(row.cells)
    for known in FORMATS[method]:
        if known.fits(names):
            return known
    for other in FORMATS.keys() - {method}:
        for known in FORMATS[other]:
            if known.fits(names):
                raise source.refuse(
                    f"it holds rows of '{known.name}' ({known.described}), which the method '{method}' cannot learn "
                    f"from. Choose the method '{other}', or another file.",
                    "wrong_method",
                )
    found = ", ".join(sorted(names)) or "none"
    fitting = "; ".join(known.described for known in FORMATS[method])
    raise source.refuse(f"its columns are: {found}. Columns that would fit: {fitting}.", "missing_columns")


def _turns(cells: Cells, prompt: str, response: str) -> list[Message]:
    system = optional_text(cells, "system")
    opening = [Message(role="system", content=system)] if system else []
    return [*opening, Message(role="user", content=prompt), Message(role="assistant", content=response)]


def _prompt_response(cells: Cells) -> list[Message]:
    return _turns(cells, text_of(cells, "prompt"), text_of(cells, *RESPONSE))


def _instruction(cells: Cells) -> list[Message]:
    instruction, details = text_of(cells, "instruction"), optional_text(cells, "input")
    return _turns(cells, f"{instruction}\n\n{details}" if details else instruction, text_of(cells, "output"))


def _question_answer(cells: Cells) -> list[Message]:
    question, context = text_of(cells, "question"), optional_text(cells, "context")
    return _turns(cells, f"{context}\n\n{question}" if context else question, text_of(cells, "answer"))


def _plain_text(cells: Cells) -> str:
    return text_of(cells, "text")


def _messages(cells: Cells) -> list[Message]:
    chat = chat_in(decoded(cells, "messages"), "messages")
    if chat[-1]["role"] != "assistant":
        raise RowProblem("the last message must be the assistant's, since that is what is learnt", "invalid_row")
    return chat


RESPONSE = ("response", "completion", "answer")

FORMATS = {
    "supervised": (
        Format("messages", (("messages",),), _messages),
        Format("prompt and response", (("prompt",), RESPONSE), _prompt_response),
        Format("instruction", (("instruction",), ("output",)), _instruction),
        Format("question and answer", (("question",), ("answer",)), _question_answer),
        Format("text", (("text",),), _plain_text),
    ),
    "dpo": (
        Format(
            "OpenAI's preferences", (("input",), ("preferred_output",), ("non_preferred_output",)), openai_preference
        ),
        Format("prompt and two answers", (("prompt",), ("chosen",), ("rejected",)), prompt_chosen_rejected),
        Format("two conversations", (("chosen",), ("rejected",)), whole_conversations),
    ),
}
