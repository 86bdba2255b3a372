"""What is wrong with a dataset, said once for all rows that share a problem."""

from collections.abc import Sequence

from tunesmith_shared.errors import BadRequest

SHOWN_ROWS = 10


class RowProblem(Exception):
    """One row cannot be used. The message completes "row 7: ..."; `code` groups it."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Problems:
    """Collects what is wrong row by row, and raises one error that names the rows of each problem."""

    def __init__(self, filename: str, param: str) -> None:
        self._filename = filename
        self._param = param
        self._rows: dict[tuple[str, str], list[int]] = {}

    def add(self, row: int, problem: RowProblem) -> None:
        """Note that `row` (as a spreadsheet numbers it) has `problem`."""
        self._rows.setdefault((problem.code, problem.message), []).append(row)

    def raise_if_any(self) -> None:
        """Raise `BadRequest` that names every problem and its rows, with the code of the first."""
        if not self._rows:
            return
        sentences = [f"{name_rows(rows)}: {message}" for (_, message), rows in list(self._rows.items())[:SHOWN_ROWS]]
        code = next(iter(self._rows))[0]
        raise BadRequest(
            f"'{self._filename}' cannot be trained on. " + ". ".join(sentences) + ". Correct or remove these rows.",
            param=self._param,
            code=code,
        )


def name_rows(rows: Sequence[int]) -> str:
    """Return "Row 3", or "Rows 3, 7, 12 and 5 more"."""
    if len(rows) == 1:
        return f"Row {rows[0]}"
    shown = ", ".join(map(str, rows[:SHOWN_ROWS]))
    more = len(rows) - SHOWN_ROWS
    return f"Rows {shown} and {more} more" if more > 0 else f"Rows {shown}"
