"""The spellings of a model's name, and which of them mean the same model."""

from functools import lru_cache

from tunesmith_shared.errors import BadRequest
from tunesmith_shared.names import ModelName


@lru_cache(maxsize=1000)  # every request asks
def canonical(name: str) -> str:
    """Return the one spelling of a name of Ollama's: with its tag, and in lower case as Ollama compares them.

    Raises `BadRequest` for what cannot be such a name.
    """
    return ModelName.parse(name).display.lower()


def identity(name: str) -> str:
    """Return a text that is the same for every spelling of one model.

    Other servers name models more freely than Ollama (`org/family/model`, a path): such a name is its only spelling.
    """
    try:
        return canonical(name)
    except BadRequest:
        return name
