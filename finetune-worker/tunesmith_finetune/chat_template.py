"""A model's chat template, rendered as transformers renders it, without transformers.

Templates come with models, and models are code: they run in jinja2's immutable sandbox. That the result equals both
transformers' and llama.cpp's is what `tests/test_parity.py` checks.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunesmith_finetune.datasets.cells import Message


class ChatTemplate:
    """A compiled template and the special tokens that it may name."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda style: datetime.now().astimezone().strftime(style)
        self._template = environment.from_string(source)
        self._special_tokens = special_tokens

    def conversation(self, messages: Sequence[Message]) -> str:
        """Return the text of a whole conversation."""
        return self._template.render(messages=messages, add_generation_prompt=False, **self._special_tokens)

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the text after which the assistant's next answer begins, as serving renders it."""
        return self._template.render(messages=messages, add_generation_prompt=True, **self._special_tokens)


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
