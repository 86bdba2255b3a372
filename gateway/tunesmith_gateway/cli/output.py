"""What a command says: tables and progress for a person, tab-separated lines for a pipe, JSON for a program."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported where it is used, for a terminal: a pipe need not wait for it
    from rich.console import Console

# A model or a file name must not be able to move the cursor or to recolour a person's terminal.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Output:
    """Standard output in one of the three forms. Progress and hints go to standard error, and only to a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.terminal = sys.stdout.isatty() and not as_json

    @cached_property
    def console(self) -> "Console":
        """Standard output as a terminal."""
        from rich.console import Console  # noqa: PLC0415

        return Console(markup=False, highlight=False, emoji=False, soft_wrap=True)

    @cached_property
    def hints(self) -> "Console":
        """Standard error as a terminal."""
        from rich.console import Console  # noqa: PLC0415

        return Console(stderr=True, markup=False, highlight=False, emoji=False)

    def table(self, data: object, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show `rows`; a program gets `data`, which they were made from."""
        if self.as_json:
            self.document(data)
        elif self.terminal:
            from rich.table import Table  # noqa: PLC0415

            table = Table(*columns, box=None, header_style="bold", pad_edge=False)
            for row in rows:
                table.add_row(*(clean(_cell(value)) for value in row))
            self.console.print(table)
        else:
            for row in rows:
                self.line("\t".join(_cell(value).replace("\t", " ").replace("\n", " ") for value in row))

    def record(self, data: object, sentence: str) -> None:
        """Say one sentence; a program gets `data`."""
        if self.as_json:
            self.document(data)
        else:
            self.line(sentence)

    def event(self, data: object, sentence: str) -> None:
        """Say one of many sentences; a program gets `data` on one line."""
        self.line(json.dumps(data, ensure_ascii=False) if self.as_json else sentence)

    def document(self, data: object) -> None:
        """Write `data` as JSON for a program."""
        self.line(json.dumps(data, ensure_ascii=False, indent=2))

    def line(self, text: str) -> None:
        """Write one line."""
        self.piece(f"{text}\n")

    def piece(self, text: str) -> None:
        """Write a piece of a text at once."""
        sys.stdout.write(clean(text) if self.terminal else text)
        sys.stdout.flush()

    def hint(self, text: str) -> None:
        """Tell a person at a terminal something that is no part of the result."""
        if self.terminal:
            self.hints.print(clean(text), style="dim")


def clean(text: str) -> str:
    """Return `text` without the characters that control a terminal."""
    return text.translate(_CONTROLS)


def when(seconds: int | None) -> str:
    """Return a time as ISO 8601 in UTC, empty for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds is not None else ""


def size(count: int) -> str:
    """Return a number of bytes for people: `98.3 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)
