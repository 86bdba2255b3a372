"""The counter never counts fewer tokens than the served model does, and in ordinary text exactly as many."""

import httpx
import pytest

from tunesmith_rag.tokens import SPECIAL_TOKENS, token_counter
from tunesmith_shared.testing import Platform

EXACT = [
    "The quick brown fox, jumps! 12345.678",
    "naïve façade, ünïcödé",
    "数字と漢字 中文",
    "Привет мир",
    "def f(x): return x**2  # comment",
    "a_b-c/d@e.com https://x.y/z?q=1",
    "😀 emoji ☃",
    "\u00a0nbsp\tTab\nline",
    "ﬁ ligature ™ ½",
]
AT_LEAST = ["x" * 150, "العربية हिन्दी ไทย", "[CLS] hi [SEP]", "\u0301\u0302 combining", "a\u00adb soft hyphen"]


def served(platform: Platform, text: str) -> int:
    body = {"model": "all-minilm", "input": text, "truncate": False}
    answer = httpx.post(f"{platform.services['engine'].url}/api/embed", json=body, timeout=60)
    count: int = answer.raise_for_status().json()["prompt_eval_count"]
    return count


@pytest.mark.parametrize("text", EXACT)
def test_ordinary_text_is_counted_exactly(engine_platform: Platform, text: str) -> None:
    assert token_counter("all-minilm", {})(text) + SPECIAL_TOKENS == served(engine_platform, text)


@pytest.mark.parametrize("text", AT_LEAST)
def test_odd_text_is_never_counted_too_low(engine_platform: Platform, text: str) -> None:
    assert token_counter("all-minilm", {})(text) + SPECIAL_TOKENS >= served(engine_platform, text)
