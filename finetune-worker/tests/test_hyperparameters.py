"""Automatic hyperparameters and those a person asks for."""

import pytest

from tunesmith_finetune.hyperparameters import choose, requested
from tunesmith_shared.errors import BadRequest
from tunesmith_shared.schemas.jobs import Hyperparameters, JobCreate, KtoHyperparameters, PreferenceHyperparameters


def _body(**fields: object) -> JobCreate:
    return JobCreate.model_validate({"model": "m", "training_file": "f", **fields})


def _supervised(**hyperparameters: object) -> dict[str, object]:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


def test_few_rows_are_seen_more_often_than_many() -> None:
    epochs = [choose(Hyperparameters(), "supervised", rows, 100, 8192).n_epochs for rows in (3, 60, 100, 1000)]
    assert epochs == [10, 4, 2, 1]


def test_what_is_asked_for_is_taken() -> None:
    wanted = Hyperparameters(n_epochs=2, batch_size=3, learning_rate=0.5, lora_rank=4, max_length=99, gguf_type="q8_0")
    chosen = choose(wanted, "supervised", 100, 50, 8192)
    assert (chosen.n_epochs, chosen.batch_size, chosen.learning_rate, chosen.lora_rank) == (2, 3, 0.5, 4)
    assert (chosen.lora_alpha, chosen.max_length, chosen.gguf_type) == (8, 99, "Q8_0")


def test_the_multiplier_scales_the_automatic_learning_rate() -> None:
    automatic = choose(Hyperparameters(), "supervised", 100, 50, 8192).learning_rate
    assert (
        choose(Hyperparameters(learning_rate_multiplier=0.5), "supervised", 100, 50, 8192).learning_rate
        == automatic / 2
    )


def test_long_rows_turn_checkpointing_on() -> None:
    assert not choose(Hyperparameters(), "supervised", 100, 100, 8192).gradient_checkpointing
    assert choose(Hyperparameters(), "supervised", 100, 2000, 8192).gradient_checkpointing


def test_openais_older_place_counts_where_the_newer_says_auto() -> None:
    wanted = requested(_body(hyperparameters={"n_epochs": 2, "batch_size": 4}, method=_supervised(n_epochs=5)))
    assert (wanted.n_epochs, wanted.batch_size) == (5, 4)


def test_more_than_the_context_is_refused() -> None:
    with pytest.raises(BadRequest) as refused:
        choose(Hyperparameters(max_length=9000), "supervised", 100, 50, 8192)
    assert refused.value.param == "method.supervised.hyperparameters.max_length"


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"packing": True}}}},
            BadRequest,
            "method.dpo.hyperparameters.packing",
        ),
        (
            {"method": _supervised(merge=False, gguf_type="Q8_0")},
            BadRequest,
            "method.supervised.hyperparameters.gguf_type",
        ),
        ({"method": _supervised(gguf_type="Q9_X")}, BadRequest, "method.supervised.hyperparameters.gguf_type"),
        (
            {"method": _supervised(tuning="full", quantization="nf4")},
            BadRequest,
            "method.supervised.hyperparameters.tuning",
        ),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"tuning": "full"}}}},
            BadRequest,
            "method.dpo.hyperparameters.tuning",
        ),
        (
            {"method": {"type": "kto", "kto": {"hyperparameters": {"batch_size": 1}}}},
            BadRequest,
            "method.kto.hyperparameters.batch_size",
        ),
        (
            {"method": _supervised(early_stopping_patience=2)},
            BadRequest,
            "method.supervised.hyperparameters.early_stopping_patience",
        ),
    ],
)
def test_what_is_not_offered_is_refused_by_name(fields: dict[str, object], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as refused:
        requested(_body(**fields))
    assert refused.value.param == param  # type: ignore[attr-defined]


def test_preference_training_has_its_own_values_and_the_older_place_counts_there_too() -> None:
    body = _body(method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3}}}, hyperparameters={"n_epochs": 3})
    chosen = choose(requested(body), "dpo", 100, 50, 8192)
    assert (chosen.beta, chosen.n_epochs) == (0.3, 3)
    supervised = choose(Hyperparameters(), "supervised", 100, 50, 8192)
    assert supervised.beta is None
    assert choose(PreferenceHyperparameters(), "dpo", 100, 50, 8192).learning_rate < supervised.learning_rate


def test_all_weights_are_learnt_more_slowly_and_without_an_adapter() -> None:
    full = choose(Hyperparameters(tuning="full"), "supervised", 100, 50, 8192)
    assert full.learning_rate < choose(Hyperparameters(), "supervised", 100, 50, 8192).learning_rate
    assert (full.lora_rank, full.lora_alpha, full.quantization) == (None, None, "none")


def test_rated_answers_weigh_the_same_on_both_sides() -> None:
    many_liked = choose(KtoHyperparameters(), "kto", 100, 50, 8192, liked=0.75)
    assert (many_liked.desirable_weight, many_liked.undesirable_weight) == (1.0, 3.0)
    few_liked = choose(KtoHyperparameters(undesirable_weight=2), "kto", 100, 50, 8192, liked=0.2)
    assert (few_liked.desirable_weight, few_liked.undesirable_weight) == (4.0, 2.0)


def test_early_stopping_looks_several_times_and_else_nothing_is_measured_meanwhile() -> None:
    assert choose(Hyperparameters(early_stopping_patience=2), "supervised", 100, 50, 8192).evaluations == 8
    assert choose(Hyperparameters(), "supervised", 100, 50, 8192).evaluations == 0
