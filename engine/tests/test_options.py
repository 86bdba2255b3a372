"""Options: types, precedence, names in llama.cpp."""

import pytest

from tunesmith_engine.options import (
    InvalidOption,
    LoadOptions,
    check_options,
    llama_sampling,
    load_options,
    merge_options,
)
from tunesmith_shared.errors import BadRequest


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("temperature", "hot", "float32"),
        ("temperature", True, "float32"),
        ("num_ctx", "4k", "integer"),
        ("seed", [1], "integer"),
        ("stop", "x", "array"),
        ("stop", [1], "an array of strings"),
        ("use_mmap", 1, "boolean"),
    ],
)
def test_a_wrong_type_is_named(name: str, value: object, kind: str) -> None:
    with pytest.raises(InvalidOption, match=f'option "{name}" must be of (type )?{kind}'):
        check_options({name: value})


def test_unknown_options_are_ignored_and_numbers_become_gos_types() -> None:
    assert check_options({"nonsense": 1, "top_k": 20.0, "temperature": 1, "seed": None}) == {
        "top_k": 20,
        "temperature": 1.0,
    }


def test_the_request_wins_over_the_model_and_the_model_over_the_defaults() -> None:
    merged = merge_options({"temperature": 0.2, "top_k": 5}, {"top_k": 7})
    assert (merged["temperature"], merged["top_k"], merged["top_p"]) == (0.2, 7, 0.9)


def test_an_endless_answer_ends_after_ten_contexts() -> None:
    assert llama_sampling(merge_options({}, {}), 100)["n_predict"] == 1000
    assert llama_sampling(merge_options({}, {"num_predict": 5}), 100)["n_predict"] == 5


def test_the_context_is_bounded_by_the_models_own() -> None:
    default = LoadOptions(4096, 2)

    def context(options: dict[str, object], own: int | None) -> int:
        return load_options(options, shift=True, model_context=own, default=default).num_ctx

    assert context({}, None) == 4096
    assert context({}, 512) == 512
    assert context({"num_ctx": 8192}, 2048) == 2048
    assert context({"num_ctx": 128}, 2048) == 256, "whole steps, as llama.cpp rounds them"
    assert context({"num_ctx": 300}, 2048) == 512
    with pytest.raises(BadRequest, match="at least 1"):
        context({"num_ctx": 0}, None)
