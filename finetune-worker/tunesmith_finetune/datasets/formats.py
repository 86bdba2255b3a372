"""From rows to examples: the format is found by the columns, or asked for by name.

To add a format, write a function from a row's cells to its content and put a `Format` into `FORMATS` under the method
that it is for; the first whose columns are all there is taken.
"""

from collections.abc import Iterator
from typing import TypedDict

from tunesmith_finetune.datasets.cells import Message
from tunesmith_finetune.datasets.chats import CHATS
from tunesmith_finetune.datasets.contents import Content, Format, Preference, Rated
from tunesmith_finetune.datasets.preferences import PAIRS
from tunesmith_finetune.datasets.problems import Problems, RowProblem
from tunesmith_finetune.datasets.public import PUBLIC_CHATS, PUBLIC_PAIRS
from tunesmith_finetune.datasets.ratings import RATINGS
from tunesmith_finetune.datasets.reader import read_rows
from tunesmith_finetune.datasets.source import Row, Source

FORMATS: dict[str, tuple[Format, ...]] = {
    "supervised": PUBLIC_CHATS + CHATS,
    "dpo": PAIRS + PUBLIC_PAIRS,
    "orpo": PAIRS + PUBLIC_PAIRS,
    "kto": RATINGS,
}


class Example(TypedDict):
    """A row to learn from: `messages` (the assistant's words are learnt), or `text` (all of it is).

    Of a pair, `messages` is what both answers follow, and `chosen` and `rejected` are the answers. Of a rated answer,
    it stands in `chosen` if it was liked, else in `rejected`.
    """

    row: int
    messages: list[Message] | None
    text: str | None
    chosen: str | None
    rejected: str | None


def read_examples(source: Source, method: str, wanted: str = "auto") -> Iterator[Example]:
    """Yield the examples of a dataset for training with `method`, in the format `wanted` ("auto": by its columns).

    Raises `BadRequest`: at once when no format of that method has the columns, and at the end with the numbers of all
    rows that cannot be used.
    """
    problems = Problems(source.filename, source.param)
    chosen: Format | None = None
    for row in read_rows(source):
        chosen = chosen or choose_format(source, row, method, wanted)
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


def detect_format(source: Source, method: str, wanted: str) -> Format:
    """Return the format of a dataset. Raises `BadRequest` when it has no rows, or none that fits."""
    first = next(read_rows(source), None)
    if first is None:
        raise source.refuse("it has no rows.", "no_rows")
    return choose_format(source, first, method, wanted)


def _example(row: int, content: Content) -> Example:
    if isinstance(content, Preference):
        return Example(row=row, messages=content.prompt, text=None, chosen=content.chosen, rejected=content.rejected)
    if isinstance(content, Rated):
        chosen, rejected = (content.answer, None) if content.liked else (None, content.answer)
        return Example(row=row, messages=content.prompt, text=None, chosen=chosen, rejected=rejected)
    messages, text = (None, content) if isinstance(content, str) else (content, None)
    return Example(row=row, messages=messages, text=text, chosen=None, rejected=None)


def choose_format(source: Source, row: Row, method: str, wanted: str) -> Format:
    """Return the format of the file whose first row is `row`. Raises `BadRequest` when there is none that fits."""
    names = set(row.cells)
    if wanted != "auto":
        return _asked_for(source, names, method, wanted)
    if (known := _found(names, method)) is not None:
        return known
    for other in FORMATS.keys() - {method}:
        if (known := _found(names, other)) is not None:
            raise source.refuse(
                f"it holds rows of the format '{known.name}' ({known.described}), which the method '{method}' cannot "
                f"learn from. Choose the method '{_methods_of(known)}', or another file.",
                "wrong_method",
            )
    found = ", ".join(sorted(names)) or "none"
    fitting = "; ".join(known.described for known in FORMATS[method] if known.found_by_columns)
    raise source.refuse(f"its columns are: {found}. Columns that would fit: {fitting}.", "missing_columns")


def _found(names: set[str], method: str) -> Format | None:
    return next((known for known in FORMATS[method] if known.found_by_columns and known.fits(names)), None)


def _methods_of(known: Format) -> str:
    return "' or '".join(method for method, formats in FORMATS.items() if known in formats)


def _asked_for(source: Source, names: set[str], method: str, wanted: str) -> Format:
    known = next((known for known in FORMATS[method] if known.name == wanted), None)
    if known is None:
        offered = ", ".join(known.name for known in FORMATS[method])
        raise source.refuse(f"the method '{method}' has no format '{wanted}'. It has: {offered}.", "unknown_format")
    if not known.fits(names):
        found = ", ".join(sorted(names)) or "none"
        raise source.refuse(
            f"the format '{wanted}' needs the columns {known.described}; the file has: {found}.", "missing_columns"
        )
    return known
