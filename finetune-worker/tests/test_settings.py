"""Settings of the worker that name other things: they are checked at the start."""

import pytest
from pydantic import ValidationError

from tunesmith_finetune import settings
from tunesmith_finetune.settings import WorkerSettings


def test_names_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda _name: True)
    chosen = WorkerSettings(trackers="tensorboard, mlflow", hub_models="org/*,other/one ")
    assert chosen.tracker_names == ["tensorboard", "mlflow"]
    assert chosen.allowed_hub_models == ["org/*", "other/one"]
    assert (WorkerSettings().tracker_names, WorkerSettings().allowed_hub_models) == (["tensorboard"], [])


def test_a_tracker_that_there_is_not_or_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="there are tensorboard, mlflow, wandb, trackio"):
        WorkerSettings(trackers="nosuch")
    monkeypatch.setattr(settings, "find_spec", lambda _name: None)
    with pytest.raises(ValidationError, match=r"pip install tunesmith-finetune\[mlflow\]"):
        WorkerSettings(trackers="mlflow")
