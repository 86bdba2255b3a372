"""Dataset formats, found by their columns, and what each becomes: a chat, or plain text.

To add a format, write a function from a row's cells to an `Example` and put a `Format` into `FORMATS`; the first whose
columns are all there is taken.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

from tunesmith_finetune.datasets.problems import Problems, RowProblem
from tunesmith_finetune.datasets.reader import Row, Source, read_rows

ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """One message of a chat."""

    role: str
    content: str


class Example(TypedDict):
    """A row to learn from: `messages` (the assistant's words are learnt), or `text` (all of it is)."""

    row: int
    messages: list[Message] | None
    text: str | None


Cells = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """A format: its columns (each a tuple of accepted names) and how its rows become examples."""

    name: str
    columns: tuple[tuple[str, ...], ...]
    convert: Callable[[Cells], list[Message] | str]

    def fits(self, names: set[str]) -> bool:
        """Whether every column is there under one of its names."""
        return all(names.intersection(accepted) for accepted in self.columns)

    @property
    def described(self) -> str:
        """The columns for people: `prompt + response|completion|answer`."""
        return " + ".join("|".join(accepted) for accepted in self.columns)


def read_examples(source: Source) -> Iterator[Example]:
    """Yield the examples of a dataset.

    Raises `BadRequest`: at once when no format has the columns, and at the end with the numbers of all rows that
    cannot be used.
    """
    problems = Problems(source.filename, source.param)
    chosen: Format | None = None
    for row in read_rows(source):
        chosen = chosen or _choose(source, row)
        try:
            content = chosen.convert(row.cells)
        except RowProblem as problem:
            problems.add(row.number, problem)
            continue
        if isinstance(content, str):
            yield Example(row=row.number, messages=None, text=content)
        else:
            yield Example(row=row.number, messages=content, text=None)
    problems.raise_if_any()
    if chosen is None:
        raise source.refuse("it has no rows.", "no_rows")


def _choose(source: Source, row: Row) -> Format:
    names = set(row.cells)
    for known in FORMATS:
        if known.fits(names):
            return known
    found = ", ".join(sorted(names)) or "none"
    fitting = "; ".join(known.described for known in FORMATS)
    raise source.refuse(f"its columns are: {found}. Columns that would fit: {fitting}.", "missing_columns")


def _text(cells: Cells, *names: str) -> str:
    """Return the text under the first of `names` that is there. Raises `RowProblem` when nothing is to be learnt."""
    name = next((name for name in names if name in cells), None)
    if name is None:
        raise RowProblem(f"'{'|'.join(names)}' is missing", "missing_columns")
    value = cells[name]
    if not isinstance(value, str):
        raise RowProblem(f"'{name}' is no text", "invalid_row")
    if not value.strip() or value.strip().lower() == "nan":
        raise RowProblem(f"'{name}' is empty", "empty_cell")
    return value


def _optional(cells: Cells, name: str) -> str | None:
    value = cells.get(name)
    return _text(cells, name) if isinstance(value, str) and value.strip() else None


def _turns(cells: Cells, prompt: str, response: str) -> list[Message]:
    system = _optional(cells, "system")
    opening = [Message(role="system", content=system)] if system else []
    return [*opening, Message(role="user", content=prompt), Message(role="assistant", content=response)]


def _prompt_response(cells: Cells) -> list[Message]:
    return _turns(cells, _text(cells, "prompt"), _text(cells, *RESPONSE))


def _instruction(cells: Cells) -> list[Message]:
    instruction, details = _text(cells, "instruction"), _optional(cells, "input")
    return _turns(cells, f"{instruction}\n\n{details}" if details else instruction, _text(cells, "output"))


def _question_answer(cells: Cells) -> list[Message]:
    question, context = _text(cells, "question"), _optional(cells, "context")
    return _turns(cells, f"{context}\n\n{question}" if context else question, _text(cells, "answer"))


def _plain_text(cells: Cells) -> str:
    return _text(cells, "text")


def _messages(cells: Cells) -> list[Message]:
    value = cells["messages"]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowProblem("'messages' is no JSON", "invalid_row") from None
    if not isinstance(value, list) or not value:
        raise RowProblem("'messages' is no list of messages", "invalid_row")
    chat = [_message(item) for item in value]
    if chat[-1]["role"] != "assistant":
        raise RowProblem("the last message must be the assistant's, since that is what is learnt", "invalid_row")
    return chat


def _message(item: object) -> Message:
    if not isinstance(item, dict) or item.get("role") not in ROLES:
        raise RowProblem(f"every message needs a role out of {', '.join(ROLES)}", "invalid_row")
    return Message(role=item["role"], content=_text(item, "content"))


RESPONSE = ("response", "completion", "answer")

FORMATS = (
    Format("messages", (("messages",),), _messages),
    Format("prompt and response", (("prompt",), RESPONSE), _prompt_response),
    Format("instruction", (("instruction",), ("output",)), _instruction),
    Format("question and answer", (("question",), ("answer",)), _question_answer),
    Format("text", (("text",),), _plain_text),
)
