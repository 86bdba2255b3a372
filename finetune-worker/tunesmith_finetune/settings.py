"""The settings of the finetune-worker; nothing else in this package reads the environment."""

from importlib.util import find_spec
from pathlib import Path

from pydantic import Field, field_validator

from tunesmith_shared.settings import ServiceSettings

REPOSITORY = Path(__file__).parents[2]


TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")


class WorkerSettings(ServiceSettings):
    """What the finetune-worker has beyond the settings of every service."""

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
        default="", description="Where trainings are logged, too: tensorboard, mlflow, wandb, trackio; with commas."
    )
    expect_gpu: bool = Field(default=False, description="Let jobs warn when they train on a CPU for want of a GPU.")
    hub_push: str = Field(
        default="", description="Repositories that jobs may send models to: names or patterns, separated by commas."
    )
    quick_check_bytes: int = Field(
        default=4 * 2**20, ge=0, description="Datasets up to this size are checked while the job is created."
    )

    @field_validator("trackers")
    @classmethod
    def _installed(cls, names: str) -> str:
        for name in _split(names):
            if name not in TRACKERS:
                raise ValueError(f"there is no '{name}'; there are {', '.join(TRACKERS)}")
            if find_spec(name) is None:
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


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
