"""The settings of the finetune-worker; nothing else in this package reads the environment."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from tunesmith_shared.errors import BadRequest
from tunesmith_shared.names import ModelName
from tunesmith_shared.settings import ServiceSettings

REPOSITORY = Path(__file__).parents[2]

# llama.cpp's names of a model's parameters, in older configurations, to Ollama's, under which the store keeps them.
_PARAMETERS = {
    "ctx_size": "num_ctx",
    "n_ctx": "num_ctx",
    "n_threads": "num_thread",
    "n_batch": "num_batch",
    "n_predict": "num_predict",
    "temp": "temperature",
    "last_n_tokens_size": "repeat_last_n",
    **{
        name: name
        for name in (
            "num_ctx", "num_thread", "num_batch", "num_predict", "temperature", "top_k", "top_p", "min_p", "stop",
            "seed", "repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty",
        )
    },
}  # fmt: skip


class SetupParams(BaseModel):
    """Where the configured model's file comes from: `filename` in the hub's `repo_id`, or a path on this machine.

    `convert` and `migrate` are read for older configurations' sake: whether a file is converted is decided by its
    first bytes.
    """

    model_config = ConfigDict(extra="ignore")

    repo_id: str = Field(default="", pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
    filename: str = ""
    convert: bool = False
    migrate: bool = False


TRACKERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb", "trackio": "trackio"}
"""Where trainings can be logged, by transformers' names, and the module that each needs."""


class WorkerSettings(ServiceSettings):
    """What the finetune-worker has beyond the settings of every service.

    A part of `setup_params` or `model_params` has a variable of its own: `TUNESMITH_SETUP_PARAMS__REPO_ID`.
    """

    model_config = SettingsConfigDict(env_nested_delimiter="__")

    setup_params: SetupParams = SetupParams()
    model_params: dict[str, Any] = Field(default_factory=dict, description="What the configured model is served with.")

    worker_build_tools: bool = Field(default=True, description="Build llama.cpp's tools in the background at start.")
    llama_cpp_dir: Path | None = Field(
        default=None, description="A ready folder with llama.cpp's tools in bin/ and its sources in source/."
    )
    llama_cpp_requirements: Path = Field(
        default=REPOSITORY / "requirements" / "llama-cpp.txt", description="The one pin of llama.cpp, with its hash."
    )
    base_models_dir: Path | None = Field(
        default=None, description="Folders of base models. Default: base-models in the data directory."
    )
    hub_models: str = Field(
        default="", description="Models that may be fetched from the hub: names or patterns, separated by commas."
    )
    training_memory_mb: int | None = Field(
        default=None, ge=256, description="Resident memory a training may take, in MiB. Default: 85% of what there is."
    )
    training_hours: float = Field(default=24.0, gt=0, description="How long one training may take.")
    tool_hours: float = Field(default=2.0, gt=0, description="How long one conversion, merge or quantisation may take.")
    training_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of a training. Default: as many as the machine has cores."
    )
    trackers: str = Field(
        default="tensorboard",
        description="Where trainings are logged, too: tensorboard, mlflow, wandb, trackio; with commas.",
    )
    expect_gpu: bool = Field(default=False, description="Let jobs warn when they train on a CPU for want of a GPU.")
    hub_push: str = Field(
        default="", description="Repositories that jobs may send models to: names or patterns, separated by commas."
    )
    quick_check_bytes: int = Field(
        default=4 * 2**20, ge=0, description="Datasets up to this size are checked while the job is created."
    )

    @model_validator(mode="after")
    def _check_configured_model(self) -> Self:
        if not self.configured_model:
            return self
        try:
            ModelName.parse(self.configured_model)
        except BadRequest as error:
            raise ValueError(f"model_name: '{self.configured_model}' cannot be a model's name") from error
        if not self.setup_params.filename:
            raise ValueError("setup_params.filename: say which file the configured model is in")
        return self

    @property
    def served_parameters(self) -> dict[str, object]:
        """The configured model's parameters under Ollama's names; those that say nothing there are left out.

        Variables of the environment are texts: what they say in JSON is read.
        """
        known = {_PARAMETERS[name]: _read(value) for name, value in self.model_params.items() if name in _PARAMETERS}
        return {name: value for name, value in known.items() if value is not None and (name, value) != ("seed", -1)}

    @field_validator("trackers")
    @classmethod
    def _installed(cls, names: str) -> str:
        for name in _split(names):
            if name not in TRACKERS:
                raise ValueError(f"there is no '{name}'; there are {', '.join(TRACKERS)}")
            if find_spec(TRACKERS[name]) is None:
                raise ValueError(f"'{name}' is not installed: pip install tunesmith-finetune[{name}]")
        return names

    @property
    def tracker_names(self) -> list[str]:
        """Where trainings are logged, by the names that transformers has for it."""
        return _split(self.trackers)

    @property
    def base_models_path(self) -> Path:
        """Where folders of base models are."""
        return self.base_models_dir or self.data_dir / "base-models"

    @property
    def allowed_hub_models(self) -> list[str]:
        """Names and patterns of what may be fetched from the hub."""
        return _split(self.hub_models)

    @property
    def jobs_dir(self) -> Path:
        """Where jobs keep their steps' outputs, a folder a job."""
        return self.data_dir / "jobs"


def _read(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
