"""The training step: a child process whose reports become events and checkpoints."""

import json
import sys
from typing import Any

from tunesmith_finetune.pipeline import Pipeline, SetAside, act, workflow_id
from tunesmith_finetune.processes import run_child
from tunesmith_finetune.steps.dataset import method_with
from tunesmith_finetune.workspace import read_json
from tunesmith_shared.clock import now
from tunesmith_shared.outage import outlast
from tunesmith_shared.tables import Job

NO_GPU = (
    "This worker was set up for a GPU and sees none, so it trains on the CPU, many times slower. Check that nvidia-smi "
    "works on the host (driver) and in a container (docker run --rm --gpus all ubuntu nvidia-smi: NVIDIA Container "
    "Toolkit), then restart the worker; cancel the job if it is not worth the wait."
)


async def train(pipeline: Pipeline, job: Job) -> None:
    """Train the adapter, from the last whole checkpoint if there is one. Raises `ChildFailed`, or `SetAside`."""
    workspace = pipeline.workspace(job)
    plan = read_json(workspace.plan)
    if not workspace.training.exists():
        listener = _Listener(pipeline, job, plan)
        workspace.pause.unlink(missing_ok=True)
        async with act(pipeline, job, "train", "loading the model to train", "trained") as told:
            await run_child(
                [sys.executable, "-m", "tunesmith_finetune.train_child", str(workspace.folder)],
                title="The training",
                log=workspace.log,
                limits=pipeline.training_limits,
                environment={"TENSORBOARD_LOGGING_DIR": str(workspace.tensorboard)},
                on_line=listener.hear,
            )
            if not workspace.training.exists() and workspace.pause.exists():
                raise SetAside
            outcome = read_json(workspace.training)
            told.detail = f"{outcome['steps']} steps"
            told.data = {"steps": outcome["steps"], "training_seconds": outcome["seconds"]}
    outcome = read_json(workspace.training)
    await pipeline.jobs.change(job.id, trained_tokens=outcome["trained_tokens"], estimated_finish=None)
    await _complete_last_checkpoint(pipeline, job, outcome)


async def _complete_last_checkpoint(pipeline: Pipeline, job: Job, outcome: dict[str, Any]) -> None:
    last = await pipeline.events.last_checkpoint(job.id)
    if last is None or not outcome["after"]:
        return
    measured = {"full_valid_loss": outcome["after"]["loss"]}
    if "accuracy" in outcome["after"]:
        measured["full_valid_mean_token_accuracy"] = outcome["after"]["accuracy"]
    metrics = {**last.metrics, **measured}
    await pipeline.events.add_checkpoint(job.id, last.step_number, last.fine_tuned_model_checkpoint, metrics)


class _Listener:
    """Turns what the training process reports into events, checkpoints and the job's columns."""

    def __init__(self, pipeline: Pipeline, job: Job, plan: dict[str, Any]) -> None:
        self._jobs = pipeline.jobs
        self._events = pipeline.events
        self._expects_gpu = pipeline.settings.expect_gpu
        self._job = job
        self._plan = plan

    async def hear(self, line: str) -> None:
        """Take one line of the training process's output; the process goes on while the database is away."""
        report = json.loads(line)
        kind = report.pop("type")
        take = {
            "setup": self._setup,
            "evaluation": self._evaluation,
            "metrics": self._metrics,
            "validation": self._validation,
            "checkpoint": self._checkpoint,
        }[kind]
        await outlast(lambda: take(dict(report)))

    async def _setup(self, report: dict[str, Any]) -> None:
        chosen = {**self._plan["hyperparameters"], "quantization": report["quantization"]}
        await self._jobs.change(self._job.id, method=method_with(self._plan["method"], chosen))
        numbers = "bfloat16 products" if report["bfloat16"] else "float32"
        message = f"training on {report['device']} ({numbers}, base quantised: {report['quantization']})"
        await self._events.tell(self._job.id, "setup", message, data=report)
        if self._expects_gpu and report["device"] != "cuda":
            await self._events.tell(self._job.id, "no-gpu", NO_GPU, level="warn")

    async def _evaluation(self, report: dict[str, Any]) -> None:
        when = report.pop("when")
        message = f"loss on the evaluation rows {when} training: {report['loss']:.3f}"
        if "reward_accuracy" in report:
            message += f", reward accuracy {report['reward_accuracy']:.0%}"
        await self._events.tell(self._job.id, f"evaluation-{when}", message, data=report)

    async def _metrics(self, report: dict[str, Any]) -> None:
        step, total = report["step"], report["total_steps"]
        await self._jobs.change(self._job.id, estimated_finish=now() + report["eta_seconds"])
        message = f"Step {step}/{total}: training loss={report['train_loss']:.2f}"
        await self._events.measure(self._job.id, f"step-{step}", message, report)

    async def _validation(self, report: dict[str, Any]) -> None:
        step, total, loss = report["step"], report["total_steps"], report["valid_loss"]
        message = f"Step {step}/{total}: loss on the evaluation rows={loss:.3f}"
        await self._events.measure(self._job.id, f"valid-{step}", message, report)

    async def _checkpoint(self, report: dict[str, Any]) -> None:
        step = report["step"]
        metrics = {name: value for name, value in report.items() if value is not None}
        name = f"{self._job.model_name}:ckpt-step-{step}"
        await self._events.add_checkpoint(self._job.id, step, name, metrics)
        await self._jobs.forget_interruptions(workflow_id(self._job))
