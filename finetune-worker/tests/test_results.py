"""The metrics file has a line a step, and only columns that its method measures."""

from typing import Any

from tunesmith_finetune.results import as_csv


def test_supervised_steps_with_the_evaluation_in_the_last_line() -> None:
    steps: list[dict[str, Any]] = [
        {"step": 1, "train_loss": 2.5, "train_mean_token_accuracy": 0.25, "learning_rate": 0.001},
        {"step": 2, "train_loss": 2.0, "train_mean_token_accuracy": None, "learning_rate": 0.0},
    ]
    assert as_csv(steps, {"loss": 1.5, "accuracy": 0.75}) == (
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,learning_rate\n"
        "1,2.5,0.25,,,0.001\n"
        "2,2.0,,1.5,0.75,0.0\n"
    )


def test_rewards_have_columns_when_they_are_measured() -> None:
    steps = [{"step": 1, "train_loss": 0.69, "train_reward_accuracy": 1.0, "train_reward_margin": 0.1}]
    header, line = as_csv(steps, None).splitlines()
    assert header.split(",")[5:7] == ["train_reward_accuracy", "train_reward_margin"]
    assert line == "1,0.69,,,,1.0,0.1,"


def test_no_steps_leave_the_header() -> None:
    assert as_csv([], {"loss": 1.0}).splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,learning_rate"
    ]
