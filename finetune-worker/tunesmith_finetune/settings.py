"""The settings of the finetune-worker; nothing else in this package reads the environment."""

from pathlib import Path

from pydantic import Field

from tunesmith_shared.settings import ServiceSettings

REPOSITORY = Path(__file__).parents[2]


class WorkerSettings(ServiceSettings):
    """What the finetune-worker has beyond the settings of every service."""

    worker_build_tools: bool = Field(default=True, description="Build llama.cpp's tools in the background at start.")
    llama_cpp_dir: Path | None = Field(
        default=None, description="A ready folder with llama.cpp's tools in bin/ and its sources in source/."
    )
    llama_cpp_requirements: Path = Field(
        default=REPOSITORY / "requirements" / "llama-cpp.txt", description="The one pin of llama.cpp, with its hash."
    )
    training_memory_mb: int | None = Field(
        default=None, ge=256, description="Resident memory a training may take, in MiB. Default: 85% of what there is."
    )
    training_hours: float = Field(default=24.0, gt=0, description="How long one training may take.")
    tool_hours: float = Field(default=2.0, gt=0, description="How long one conversion, merge or quantisation may take.")
    training_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of a training. Default: as many as the machine has cores."
    )
    expect_gpu: bool = Field(default=False, description="Let jobs warn when they train on a CPU for want of a GPU.")
    quick_check_bytes: int = Field(
        default=4 * 2**20, ge=0, description="Datasets up to this size are checked while the job is created."
    )

    @property
    def jobs_dir(self) -> Path:
        """Where jobs keep their steps' outputs, a folder a job."""
        return self.data_dir / "jobs"
