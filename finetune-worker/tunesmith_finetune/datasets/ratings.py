"""Rated answers (KTO, arXiv 2402.01306): a prompt, one answer, and whether people liked it."""

from tunesmith_finetune.datasets.cells import Cells, Message, chat_in, decoded, text_of
from tunesmith_finetune.datasets.chats import RESPONSE, opening
from tunesmith_finetune.datasets.contents import Format, Rated
from tunesmith_finetune.datasets.problems import RowProblem

LIKED = {"true": True, "1": True, "yes": True, "good": True, "false": False, "0": False, "no": False, "bad": False}


def _rated_answer(cells: Cells) -> Rated:
    value = cells["prompt"]
    if isinstance(value, list):
        prompt = chat_in(value, "prompt")
    else:
        prompt = [*opening(cells), Message(role="user", content=text_of(cells, "prompt"))]
    answer = next((cells[name] for name in RESPONSE if name in cells), None)
    if isinstance(answer, list):
        messages = chat_in(answer, "completion")
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            raise RowProblem("'completion' must be one message of the assistant", "invalid_row")
        return Rated(prompt, messages[0]["content"], _liked(cells))
    return Rated(prompt, text_of(cells, *RESPONSE), _liked(cells))


def _rated_chat(cells: Cells) -> Rated:
    chat = chat_in(decoded(cells, "messages"), "messages")
    if len(chat) < 2 or chat[-1]["role"] != "assistant":
        raise RowProblem("the last message must be the assistant's, since that is what was rated", "invalid_row")
    return Rated(chat[:-1], chat[-1]["content"], _liked(cells))


def _liked(cells: Cells) -> bool:
    value = cells["label"]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowProblem("'label' is empty", "empty_cell")
    known = LIKED.get(str(value).strip().lower())
    if known is None:
        raise RowProblem("'label' must be true or false", "invalid_row")
    return known


RATINGS = (
    Format("rated-chat", (("messages",), ("label",)), _rated_chat),
    Format("rated-answer", (("prompt",), RESPONSE, ("label",)), _rated_answer),
)
