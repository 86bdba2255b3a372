"""Supervised formats: chats, turns, questions with answers, and plain text."""

from typing import Any

from tunesmith_finetune.datasets.cells import Cells, Message, chat_in, decoded, optional_text, text_of
from tunesmith_finetune.datasets.contents import Format
from tunesmith_finetune.datasets.problems import RowProblem

RESPONSE = ("response", "completion", "answer")


def turns(cells: Cells, prompt: str, response: str) -> list[Message]:
    """Return a chat of two turns, opened by the row's `system` when it has one."""
    return [*opening(cells), Message(role="user", content=prompt), Message(role="assistant", content=response)]


def opening(cells: Cells) -> list[Message]:
    """Return what the row's `system` says, as the first message, or nothing."""
    system = optional_text(cells, "system")
    return [Message(role="system", content=system)] if system else []


def with_details(task: str, details: str | None) -> str:
    """Return a task with what it is about below it."""
    return f"{task}\n\n{details}" if details else task


def asked_about(context: str | None, question: str) -> str:
    """Return a question below the text that it is about."""
    return f"{context}\n\n{question}" if context else question


def first_answer(cells: Cells) -> str:
    """Return the answer of a row: the text under `answer`, or the first of `answers`.

    `answers` is a text, a list of texts, or SQuAD's `{"text": [...], "answer_start": [...]}`; in CSV also as JSON.
    """
    if "answer" in cells:
        return text_of(cells, "answer")
    value = cells["answers"]
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        value = decoded(cells, "answers")
    return text_of({"answers": _first_text(value)}, "answers")


def _first_text(value: Any) -> Any:
    """Return the first text in a list, below an object's `text`; anything else as it is."""
    if isinstance(value, dict):
        value = value.get("text")
    if isinstance(value, list):
        return next((item for item in value if item), None)
    return value


def _prompt_response(cells: Cells) -> list[Message]:
    return turns(cells, text_of(cells, "prompt"), text_of(cells, *RESPONSE))


def _instruction(cells: Cells) -> list[Message]:
    asked = with_details(text_of(cells, "instruction"), optional_text(cells, "input"))
    return turns(cells, asked, text_of(cells, "output"))


def _question_answer(cells: Cells) -> list[Message]:
    asked = asked_about(optional_text(cells, "context"), text_of(cells, "question"))
    return turns(cells, asked, first_answer(cells))


def _plain_text(cells: Cells) -> str:
    return text_of(cells, "text")


def _messages(cells: Cells) -> list[Message]:
    chat = chat_in(decoded(cells, "messages"), "messages")
    if chat[-1]["role"] != "assistant":
        raise RowProblem("the last message must be the assistant's, since that is what is learnt", "invalid_row")
    return chat


CHATS = (
    Format("messages", (("messages",),), _messages),
    Format("prompt-response", (("prompt",), RESPONSE), _prompt_response),
    Format("alpaca", (("instruction",), ("output",)), _instruction),
    Format("question-answer", (("question",), ("answer", "answers")), _question_answer),
    Format("text", (("text",),), _plain_text),
)
