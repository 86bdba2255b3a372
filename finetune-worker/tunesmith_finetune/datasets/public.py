"""The shapes of public datasets that people start with, as their own cards describe them.

Most have columns of their own and are recognised; `gsm8k` and, for supervised training, `hh-rlhf` look like other
files and are used when a job asks for them by name.
"""

import re
from typing import Any

from tunesmith_finetune.datasets.cells import Cells, Message, decoded, optional_text, text_of
from tunesmith_finetune.datasets.chats import asked_about, turns, with_details
from tunesmith_finetune.datasets.contents import Format, Preference
from tunesmith_finetune.datasets.preferences import whole_conversations
from tunesmith_finetune.datasets.problems import RowProblem

_LETTERS = "ABCDEFGHIJ"
_CALCULATION = re.compile(r"<<[^<>]*>>")
_BEST = ("best_answer", "best answer")
_WRONG = ("incorrect_answers", "incorrect answers")


def _dolly(cells: Cells) -> list[Message]:
    """databricks/databricks-dolly-15k: instruction, context, response, category."""
    asked = asked_about(optional_text(cells, "context"), text_of(cells, "instruction"))
    return turns(cells, asked, text_of(cells, "response"))


def _gsm8k(cells: Cells) -> list[Message]:
    """openai/gsm8k: question; answer with calculator notes (`<<48/2=24>>`) and the result after `####`."""
    worked, mark, result = text_of(cells, "answer").rpartition("####")
    if not mark or not worked.strip():
        raise RowProblem("'answer' has no '####' before its result, as gsm8k's rows have", "invalid_row")
    answer = f"{_CALCULATION.sub('', worked).strip()}\n\nThe answer is {result.strip()}."
    return turns(cells, text_of(cells, "question"), answer)


def _metamath(cells: Cells) -> list[Message]:
    """meta-math/MetaMathQA: query, response, original_question, type."""
    return turns(cells, text_of(cells, "query"), text_of(cells, "response"))


def _hotpot(cells: Cells) -> list[Message]:
    """hotpotqa/hotpot_qa: context {title: [...], sentences: [[...], ...]}; the paragraphs stand before the question."""
    context = decoded(cells, "context")
    if not isinstance(context, dict) or not isinstance(context.get("sentences"), list):
        raise RowProblem("'context' has no titles and sentences, as hotpot_qa's rows have", "invalid_row")
    paragraphs = [
        f"{title}: {''.join(map(str, sentences)).strip()}"
        for title, sentences in zip(context.get("title") or [], context["sentences"], strict=False)
    ]
    asked = asked_about("\n\n".join(paragraphs), text_of(cells, "question"))
    return turns(cells, asked, text_of(cells, "answer"))


def _mmlu(cells: Cells) -> list[Message]:
    """cais/mmlu: four choices, and the right one's index from 0 (or its letter)."""
    choices = _texts(decoded(cells, "choices"), "choices")
    return _choice(cells, list(_LETTERS[: len(choices)]), choices, cells["answer"])


def _commonsense(cells: Cells) -> list[Message]:
    """tau/commonsense_qa: choices {label: [...], text: [...]}, and the right one's label."""
    choices = decoded(cells, "choices")
    if not isinstance(choices, dict):
        raise RowProblem("'choices' has no labels and texts, as commonsense_qa's rows have", "invalid_row")
    labels, texts = (_texts(choices.get(name), f"choices.{name}") for name in ("label", "text"))
    return _choice(cells, labels, texts, text_of(cells, "answerkey"))


def _choice(cells: Cells, labels: list[str], texts: list[str], right: Any) -> list[Message]:
    """Return a question with lettered choices, and the right one as the answer."""
    key = str(right).strip().upper()
    index = int(key) if key.isdigit() and key not in labels else labels.index(key) if key in labels else -1
    if not 0 <= index < min(len(labels), len(texts)):
        raise RowProblem("the right answer is none of the choices", "invalid_row")
    listed = "\n".join(f"{label}. {text}" for label, text in zip(labels, texts, strict=False))
    return turns(cells, with_details(text_of(cells, "question"), listed), f"{labels[index]}. {texts[index]}")


def _trivia(cells: Cells) -> list[Message]:
    """mandarjoshi/trivia_qa: answer {value, aliases, ...}; the pages that it was searched in are left out."""
    answer = decoded(cells, "answer")
    if not isinstance(answer, dict):
        raise RowProblem("'answer' has no 'value', as trivia_qa's rows have", "invalid_row")
    return turns(cells, text_of(cells, "question"), text_of(answer, "value"))


def _truthful(cells: Cells) -> list[Message]:
    """truthfulqa/truthful_qa, `generation`: the best answer."""
    return turns(cells, text_of(cells, "question"), text_of(cells, *_BEST))


def _truthful_choice(cells: Cells) -> list[Message]:
    """truthfulqa/truthful_qa, `multiple_choice`: the one true choice of mc1_targets {choices, labels}."""
    targets = decoded(cells, "mc1_targets")
    if not isinstance(targets, dict) or 1 not in (targets.get("labels") or []):
        raise RowProblem("'mc1_targets' has no true choice", "invalid_row")
    choices = _texts(targets.get("choices"), "mc1_targets.choices")
    return turns(cells, text_of(cells, "question"), choices[targets["labels"].index(1)])


def _truthful_pair(cells: Cells) -> Preference:
    """truthfulqa/truthful_qa: the best answer against the first that is wrong."""
    name = next(name for name in _WRONG if name in cells)
    value = cells[name]
    wrong = value.split(";") if isinstance(value, str) and not value.lstrip().startswith("[") else decoded(cells, name)
    first = next((text.strip() for text in _texts(wrong, name) if text.strip()), None)
    if first is None:
        raise RowProblem(f"'{name}' is empty", "empty_cell")
    return Preference([Message(role="user", content=text_of(cells, "question"))], text_of(cells, *_BEST), first)


def _liked_conversation(cells: Cells) -> list[Message]:
    """Anthropic/hh-rlhf for supervised training: the conversation that people liked better."""
    pair = whole_conversations(cells)
    return [*pair.prompt, Message(role="assistant", content=pair.chosen)]


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise RowProblem(f"'{name}' is no list of texts", "invalid_row")
    return value


PUBLIC_CHATS = (
    Format("hotpot_qa", (("question",), ("context",), ("supporting_facts",), ("answer",)), _hotpot),
    Format("commonsense_qa", (("question",), ("choices",), ("answerkey",)), _commonsense),
    Format("mmlu", (("question",), ("choices",), ("answer",)), _mmlu),
    Format("trivia_qa", (("question",), ("question_source",), ("answer",)), _trivia),
    Format("truthful_qa", (("question",), _BEST), _truthful),
    Format("truthful_qa-choices", (("question",), ("mc1_targets",)), _truthful_choice),
    Format("metamathqa", (("query",), ("response",)), _metamath),
    Format("dolly", (("instruction",), ("response",)), _dolly),
    Format("gsm8k", (("question",), ("answer",)), _gsm8k, found_by_columns=False),
    Format("hh-rlhf", (("chosen",), ("rejected",)), _liked_conversation, found_by_columns=False),
)

PUBLIC_PAIRS = (Format("truthful_qa", (("question",), _BEST, _WRONG), _truthful_pair),)
