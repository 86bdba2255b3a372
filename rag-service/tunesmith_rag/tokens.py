"""Count tokens as the embedding model counts them, so that no text is ever longer than the model takes.

The vocabulary comes from the model server itself (`/api/show` with `verbose`), so the count is the served model's own.
llama.cpp stores a WordPiece vocabulary turned round: word starts carry U+2581 and continuations lose their `##`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

TokenCounter = Callable[[str], int]
"""Gives the number of tokens of a text, without the model's own start and end tokens; never fewer than there are."""

SPECIAL_TOKENS = 2
"""What embedding models put around a text: a start and an end token."""

_WORD_START = "\u2581"
_LONG_WORD = re.compile(r"\S{101,}")


def token_counter(model_info: Mapping[str, Any]) -> TokenCounter:
    """Return the counter for the model that `/api/show` describes with `model_info`.

    A model whose vocabulary is not WordPiece, or is not shown, gets a count that is never too low: its UTF-8 bytes,
    since no tokenizer makes more tokens than bytes.
    """
    tokens = model_info.get("tokenizer.ggml.tokens")
    if model_info.get("tokenizer.ggml.model") != "bert" or not tokens:
        return count_bytes
    return _wordpiece_counter(cast("list[str]", tokens))


def count_bytes(text: str) -> int:
    """Count the UTF-8 bytes of `text`."""
    return len(text.encode())


def _wordpiece_counter(tokens: list[str]) -> TokenCounter:
    vocabulary = {_as_wordpiece(token): index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a token of text
    lowercase = not any(token.removeprefix(_WORD_START) == "The" for token in tokens)
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()

    def count(text: str) -> int:
        # The library takes a word of over 100 characters as one unknown token, the server as many: count its
        # characters.
        long_words = _LONG_WORD.findall(text)
        rest = _LONG_WORD.sub(" ", text) if long_words else text
        return len(tokenizer.encode(rest, add_special_tokens=False).ids) + sum(map(count_bytes, long_words))

    return count


def _as_wordpiece(token: str) -> str:
    if token.startswith(_WORD_START):
        return token[1:]
    if token.startswith("[") and token.endswith("]"):
        return token
    return f"##{token}"
