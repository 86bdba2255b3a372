"""What the cells of a row hold: texts and chats. A row that does not hold them is a `RowProblem`."""

import json
from typing import Any, TypedDict

from tunesmith_finetune.datasets.problems import RowProblem

ROLES = ("system", "user", "assistant")

Cells = dict[str, Any]


class Message(TypedDict):
    """One message of a chat."""

    role: str
    content: str


def text_of(cells: Cells, *names: str) -> str:
    """Return the text under the first of `names` that is there. Raises `RowProblem` when nothing is to be learnt."""
    name = next((name for name in names if name in cells), None)
    if name is None:
        raise RowProblem(f"'{'|'.join(names)}' is missing", "missing_columns")
    value = cells[name]
    if value is None:
        raise RowProblem(f"'{name}' is empty", "empty_cell")
    if not isinstance(value, str):
        raise RowProblem(f"'{name}' is no text", "invalid_row")
    if not value.strip() or value.strip().lower() == "nan":
        raise RowProblem(f"'{name}' is empty", "empty_cell")
    return value


def optional_text(cells: Cells, name: str) -> str | None:
    """Return the text under `name`, or None when there is none."""
    value = cells.get(name)
    return text_of(cells, name) if isinstance(value, str) and value.strip() else None


def decoded(cells: Cells, name: str) -> Any:
    """Return what is under `name`; a text, as CSV has it, is read as JSON. Raises `RowProblem` when it is none."""
    value = cells.get(name)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise RowProblem(f"'{name}' is no JSON", "invalid_row") from None


def chat_in(value: object, name: str) -> list[Message]:
    """Return `value`, found under `name`, as a chat. Raises `RowProblem` for what is no list of messages."""
    if not isinstance(value, list) or not value:
        raise RowProblem(f"'{name}' is no list of messages", "invalid_row")
    return [_message(item) for item in value]


def _message(item: object) -> Message:
    if not isinstance(item, dict) or item.get("role") not in ROLES:
        raise RowProblem(f"every message needs a role out of {', '.join(ROLES)}", "invalid_row")
    return Message(role=item["role"], content=text_of(item, "content"))
