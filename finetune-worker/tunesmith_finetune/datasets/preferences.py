"""Preference pairs: a chat, the answer that people preferred to it, and the one that they did not."""

import re

from tunesmith_finetune.datasets.cells import Cells, Message, chat_in, decoded, text_of
from tunesmith_finetune.datasets.chats import opening
from tunesmith_finetune.datasets.contents import Format, Preference
from tunesmith_finetune.datasets.problems import RowProblem

ASSISTANT = "\n\nAssistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def prompt_chosen_rejected(cells: Cells) -> Preference:
    """Return a row whose prompt has a column of its own: a text, or a list of messages."""
    value = cells["prompt"]
    if isinstance(value, list):
        prompt = chat_in(value, "prompt")
    else:
        prompt = [*opening(cells), Message(role="user", content=text_of(cells, "prompt"))]
    (before, chosen), (before_rejected, rejected) = _answer(cells, "chosen"), _answer(cells, "rejected")
    return _pair(before or prompt, before_rejected or prompt, chosen, rejected)


def whole_conversations(cells: Cells) -> Preference:
    """Return a row whose two columns hold the conversation with the one and with the other last answer.

    Texts are split at the last "\\n\\nAssistant:", as in Anthropic's hh-rlhf.
    """
    (before, chosen), (before_rejected, rejected) = _conversation(cells, "chosen"), _conversation(cells, "rejected")
    return _pair(before, before_rejected, chosen, rejected)


def openai_preference(cells: Cells) -> Preference:
    """Return a line of OpenAI's preference files: `input.messages`, and a list with one answer for each side."""
    given = decoded(cells, "input")
    prompt = chat_in(given.get("messages") if isinstance(given, dict) else None, "input.messages")
    answers = []
    for name in ("preferred_output", "non_preferred_output"):
        messages = chat_in(decoded(cells, name), name)
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            raise RowProblem(f"'{name}' must be one message of the assistant", "invalid_row")
        answers.append(messages[0]["content"])
    return _pair(prompt, prompt, *answers)


def _answer(cells: Cells, name: str) -> tuple[list[Message], str]:
    """Return the answer in a cell, and the messages before it when the cell is a chat."""
    if isinstance(cells[name], list):
        return _last(chat_in(cells[name], name), name)
    return [], text_of(cells, name)


def _conversation(cells: Cells, name: str) -> tuple[list[Message], str]:
    if isinstance(cells[name], list):
        return _last(chat_in(cells[name], name), name)
    prompt, mark, answer = text_of(cells, name).rpartition(ASSISTANT)
    if not mark:
        raise RowProblem(f"'{name}' has no '\\n\\nAssistant:' before an answer", "invalid_row")
    if not answer.strip():
        raise RowProblem(f"'{name}' ends without an answer", "empty_cell")
    before, *parts = _TURN.split(f"\n\n{prompt.lstrip()}")
    turns = [
        Message(role=_ROLES[role], content=words.strip()) for role, words in zip(parts[::2], parts[1::2], strict=True)
    ]
    if before.strip() or not turns:
        raise RowProblem(f"'{name}' does not begin with '\\n\\nHuman:'", "invalid_row")
    if not all(turn["content"] for turn in turns):
        raise RowProblem(f"'{name}' has a turn without words", "empty_cell")
    return turns, answer.strip()


def _last(chat: list[Message], name: str) -> tuple[list[Message], str]:
    if chat[-1]["role"] != "assistant":
        raise RowProblem(f"the last message of '{name}' must be the assistant's", "invalid_row")
    return chat[:-1], chat[-1]["content"]


def _pair(prompt: list[Message], other: list[Message], chosen: str, rejected: str) -> Preference:
    if prompt != other:
        raise RowProblem("the chosen and the rejected answer do not follow the same conversation", "invalid_row")
    if not prompt or prompt[-1]["role"] == "assistant":
        raise RowProblem("the answers must follow a message that is not the assistant's", "invalid_row")
    if chosen == rejected:
        raise RowProblem("the chosen and the rejected answer are the same; nothing is to be learnt", "invalid_row")
    return Preference(prompt, chosen, rejected)


PAIRS = (
    Format("openai-preference", (("input",), ("preferred_output",), ("non_preferred_output",)), openai_preference),
    Format("preference", (("prompt",), ("chosen",), ("rejected",)), prompt_chosen_rejected),
    Format("hh-rlhf", (("chosen",), ("rejected",)), whole_conversations),
)
