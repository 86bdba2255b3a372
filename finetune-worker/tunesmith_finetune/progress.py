"""What a training process tells its parent while it runs: a JSON object a line."""

# ruff: noqa: ARG002 - transformers calls these methods with all of their arguments

import json
import time
from pathlib import Path
from typing import Any, TextIO

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunesmith_finetune.checkpoints import mark_whole

REWARDS = {"rewards/accuracies": "train_reward_accuracy", "rewards/margins": "train_reward_margin"}
"""What preference training measures of a step beside the loss: TRL's names, and ours."""


class Reporter:
    """Writes reports to the parent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, kind: str, **values: object) -> None:
        """Send one report of type `kind`."""
        self._stream.write(json.dumps({"type": kind, **values}) + "\n")
        self._stream.flush()


class Progress(TrainerCallback):
    """Reports every logged step, with the remaining time estimated from the pace so far, and every whole checkpoint."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._first_step = 0
        self._last: tuple[float, float] = (time.monotonic(), 0.0)
        self._started = time.monotonic()
        self._logs: dict[str, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock; a resumed training starts at its checkpoint's step."""
        self._started = time.monotonic()
        self._first_step = state.global_step
        self._last = (self._started, 0.0)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report a step: loss in nats a token, pace in tokens a second, memory in bytes, remaining time in seconds."""
        logs: dict[str, Any] = kwargs["logs"]
        if "loss" not in logs:
            return
        self._logs = logs
        now, tokens = time.monotonic(), float(logs.get("num_tokens", 0))
        seconds_a_step = (now - self._started) / max(1, state.global_step - self._first_step)
        self._reporter.say(
            "metrics",
            step=state.global_step,
            total_steps=state.max_steps,
            train_loss=float(logs["loss"]),
            train_mean_token_accuracy=logs.get("mean_token_accuracy"),
            learning_rate=float(logs["learning_rate"]),
            tokens_per_second=round(max(0.0, tokens - self._last[1]) / max(1e-9, now - self._last[0]), 1),
            memory_bytes=_memory_bytes(),
            eta_seconds=round(seconds_a_step * (state.max_steps - state.global_step)),
            **{ours: float(logs[theirs]) for theirs, ours in REWARDS.items() if theirs in logs},
        )
        self._last = (now, tokens)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the loss on the evaluation rows meanwhile."""
        metrics: dict[str, Any] = kwargs["metrics"]
        if "eval_loss" in metrics:
            self._reporter.say(
                "validation",
                step=state.global_step,
                total_steps=state.max_steps,
                valid_loss=float(metrics["eval_loss"]),
                valid_mean_token_accuracy=metrics.get("eval_mean_token_accuracy"),
            )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint as whole, then report it."""
        mark_whole(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
        loss, accuracy = self._logs.get("loss"), self._logs.get("mean_token_accuracy")
        self._reporter.say(
            "checkpoint",
            step=state.global_step,
            train_loss=float(loss) if loss is not None else None,
            train_mean_token_accuracy=accuracy,
        )


class Pausing(TrainerCallback):
    """Saves a checkpoint and ends the training as soon as the file `mark` is there; `asked` says that it was."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark
        self.asked = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Look for the file after each step of the optimiser."""
        if self._mark.exists() and state.global_step < state.max_steps:
            self.asked = control.should_save = control.should_training_stop = True
        return control


def _memory_bytes() -> int:
    """Return the accelerator's peak memory where there is one, else this process's resident memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)
