"""A text between two others, by a model whose file names the marks for it."""

import struct
from collections.abc import Iterator
from pathlib import Path

import ollama
import openai
import pytest

from tunesmith_engine.insert import Marks, insert_marks
from tunesmith_shared.store import GgufValue, read_gguf_header

from .conftest import CHAT, Engine

CODER = "coder"
BEFORE, AFTER = "def add(a, b):\n    return", "\n\nprint(add(1, 2))"
MARKS = {"fim_pre": 11, "fim_suf": 12, "fim_mid": 6}
"""Tokens of SmolLM2 that stand in for marks; it was not trained to fill in, and says what it says."""
MARKED = f"<jupyter_start>{BEFORE}<jupyter_text>{AFTER}<filename>"
EXACT = {"temperature": 0, "seed": 1, "num_predict": 8}


@pytest.fixture(scope="module", autouse=True)
def coder(engine: Engine) -> Iterator[None]:
    """The chat model, with marks."""
    digest = engine.upload(_with_marks(Path(engine.show_path(CHAT))))
    engine.ollama.create(CODER, files={"coder.gguf": digest})
    yield
    engine.ollama.delete(CODER)


def test_the_prompt_is_mark_before_mark_after_mark(engine: Engine) -> None:
    assert "insert" in (engine.ollama.show(CODER).capabilities or [])
    expected = engine.say(CODER, MARKED, raw=True, **EXACT)
    told = engine.ollama.generate(CODER, BEFORE, suffix=AFTER, options=EXACT)
    assert (told.response, told.done_reason) == (expected, "length")
    parts = engine.ollama.generate(CODER, BEFORE, suffix=AFTER, options=EXACT, stream=True)
    assert "".join(part.response or "" for part in parts) == expected
    create = engine.openai.completions.create
    answer = create(model=CODER, prompt=BEFORE, suffix=AFTER, max_tokens=8, temperature=0, seed=1, top_p=0.9)
    assert answer.choices[0].text == expected
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == told.prompt_eval_count
    two = create(model=CODER, prompt=BEFORE, suffix=AFTER, n=2, max_tokens=8, temperature=0, seed=1, top_p=0.9)
    assert [choice.text for choice in two.choices] == [expected] * 2


def test_marks_in_the_texts_are_text(engine: Engine) -> None:
    inserted = engine.ollama.generate(CODER, "<filename>", suffix=AFTER, options=EXACT).prompt_eval_count or 0
    plain = engine.ollama.generate(CODER, "x", suffix=AFTER, options=EXACT).prompt_eval_count or 0
    assert inserted > plain + 1


def test_of_long_texts_what_is_far_from_the_gap_is_left_out_or_they_are_refused(engine: Engine) -> None:
    before, after = "# a line of code\n" * 200 + BEFORE, AFTER + "\n# a line of code" * 200
    small = {**EXACT, "num_ctx": 256}
    cut = engine.ollama.generate(CODER, before, suffix=after, options=small)
    assert cut.prompt_eval_count == 128 + 3
    body = {"model": CODER, "prompt": before, "suffix": after, "options": small, "truncate": False}
    refused = engine.http.post("/api/generate", json=body)
    assert refused.status_code == 400
    assert "256" in refused.json()["error"]


def test_another_model_and_a_prompt_of_tokens_are_refused(engine: Engine) -> None:
    with pytest.raises(ollama.ResponseError, match="does not support insert"):
        engine.ollama.generate(CHAT, BEFORE, suffix=AFTER)
    with pytest.raises(openai.BadRequestError, match="must be a text"):
        engine.openai.completions.create(model=CODER, prompt=[1, 2], suffix=AFTER)


def test_marks_are_known_by_their_text_too() -> None:
    tokens = ["<s>", "a", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
    known: dict[str, GgufValue] = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.bos_token_id": 0}
    assert insert_marks(known) == Marks(before=2, after=4, middle=3, start=None)
    assert insert_marks({**known, "tokenizer.ggml.add_bos_token": True}) == Marks(2, 4, 3, 0)
    assert insert_marks({"tokenizer.ggml.tokens": tokens[:4]}) is None


def _with_marks(source: Path) -> bytes:
    """The file with the marks among its metadata."""
    header, content = read_gguf_header(source), source.read_bytes()
    added = b"".join(
        struct.pack(f"<Q{len(key)}sII", len(key), key, 4, token)  # a key, the type uint32, a value
        for name, token in MARKS.items()
        for key in [f"tokenizer.ggml.{name}_token_id".encode()]
    )
    tensors, pairs = struct.unpack_from("<QQ", content, 8)
    size = sum(24 + len(tensor.name.encode()) + 8 * len(tensor.shape) for tensor in header.tensors)
    entries = content[header.tensors_start : header.tensors_start + size]
    head = content[:8] + struct.pack("<QQ", tensors, pairs + len(MARKS)) + content[24 : header.tensors_start]
    head += added + entries
    return head + bytes(-len(head) % header.alignment) + content[header.data_start :]
