"""Chunks fit the embedding model, and together hold every word of the page."""

import pytest

from tunesmith_rag.split import Chunking, effective_chunking, page_splitter
from tunesmith_rag.tokens import count_bytes, token_counter

COUNT = token_counter("all-minilm", {})
PROSE = "\n\n".join(
    f"Paragraph {n}. The station master reads gauge number {n}.\nHe writes it down; then he calls the harbour." * 3
    for n in range(40)
)
ODD = ["x" * 5000, "漢字" * 900, "a" * 99 + " " + "b" * 101, "www.example.org/" + "q=1&" * 400, "1234567890" * 300]


@pytest.mark.parametrize("text", [PROSE, *ODD])
@pytest.mark.parametrize("size", [20, 150, 254])
def test_no_chunk_is_longer_than_asked(text: str, size: int) -> None:
    chunks = page_splitter(Chunking(size, size // 6), COUNT)(text)
    assert max(map(COUNT, chunks)) <= size


@pytest.mark.parametrize("text", [PROSE, *ODD])
def test_without_overlap_the_chunks_are_the_page(text: str) -> None:
    chunks = page_splitter(Chunking(100, 0), COUNT)(text)
    assert "".join("".join(chunks).split()) == "".join(text.split())


def test_overlap_repeats_the_end_of_a_chunk_in_the_next() -> None:
    first, second, *_ = page_splitter(Chunking(60, 30), COUNT)(PROSE)
    assert any(first.endswith(second[:length]) for length in range(10, len(second)))


def test_a_page_without_text_has_no_chunks() -> None:
    assert page_splitter(Chunking(100, 10), COUNT)("") == []


def test_sizes_stay_within_what_the_model_takes() -> None:
    asked = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
    assert effective_chunking(asked, 254) == Chunking(254, 127)
    assert effective_chunking({"type": "auto"}, 100) == Chunking(100, 16)


def test_a_chunk_that_counts_more_than_its_pieces_is_halved() -> None:
    def joined(text: str) -> int:
        return len(text.split()) ** 2  # as a tokenizer whose pieces do not add up

    chunks = page_splitter(Chunking(9, 0), joined)("one two three four five six seven")
    assert max(map(joined, chunks)) <= 9
    assert " ".join(chunks) == "one two three four five six seven"


def test_a_model_with_an_unknown_vocabulary_is_counted_in_bytes() -> None:
    assert token_counter("some-model", {"tokenizer.ggml.model": "gpt2"}) is count_bytes
    assert token_counter("another-bert", {"tokenizer.ggml.model": "bert"}) is count_bytes
    assert count_bytes("née") == 4


def test_a_served_vocabulary_is_turned_back() -> None:
    served = ["[UNK]", "▁rain", "ing", "▁gauge"]
    count = token_counter("x", {"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": served})
    assert (count("raining gauge"), count("unknown rain")) == (3, 2)
