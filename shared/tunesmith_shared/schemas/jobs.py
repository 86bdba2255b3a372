"""Fine-tuning jobs: `/v1/fine_tuning/jobs`.

Field names, ranges and statuses follow OpenAI's fine-tuning API; the hyperparameters from `learning_rate` on, and
`model_name` and `parameters`, are ours.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from tunesmith_shared.schemas.base import Body

Auto = Literal["auto"]
JobStatus = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled", "paused"]
FINISHED: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")
Quantization = Literal["nf4", "int8", "none"]
MethodName = Literal["supervised", "dpo", "orpo", "kto"]
Tuning = Literal["lora", "full"]
Scheduler = Literal["linear", "cosine", "constant", "polynomial", "inverse_sqrt"]
LongRows = Literal["refuse", "truncate", "skip"]
GgufType = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{2,16}$")]
Promote = Literal["proven", "always"]


class Hyperparameters(Body):
    """Each is a value or `"auto"`; what was chosen is shown in the job.

    `tuning`: an adapter is learnt, or all weights of the model are. `warmup_ratio`: over which share of the steps the
    learning rate rises. `long_rows`: what becomes of rows longer than `max_length`. `evaluations`: how often the loss
    on the validation file is measured while training; `early_stopping_patience`: after how many of them without a
    better loss training ends (0: never), and the best checkpoint is what is kept. `gguf_type`: one of llama-quantize's
    types, or several. `imatrix`: quantise by what matters for the training data. `promote`: whether a model that fails
    the checks gets its name all the same ("always").
    """

    n_epochs: Annotated[int, Field(ge=1, le=100)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=100)] | Auto = "auto"
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    scheduler: Scheduler | Auto = "auto"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | Auto = "auto"
    weight_decay: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    tuning: Tuning | Auto = "auto"
    lora_rank: Annotated[int, Field(ge=1, le=512)] | Auto = "auto"
    lora_alpha: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | Auto = "auto"
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    gradient_checkpointing: bool | Auto = "auto"
    packing: bool | Auto = "auto"
    max_length: Annotated[int, Field(ge=16, le=1_048_576)] | Auto = "auto"
    long_rows: LongRows | Auto = "auto"
    evaluations: Annotated[int, Field(ge=0, le=100)] | Auto = "auto"
    early_stopping_patience: Annotated[int, Field(ge=0, le=100)] | Auto = "auto"
    quantization: Quantization | Auto = "auto"
    gguf_type: GgufType | Annotated[list[GgufType], Field(min_length=1, max_length=8)] | Auto = "auto"
    imatrix: bool | Auto = "auto"
    merge: bool | Auto = "auto"
    promote: Promote | Auto = "auto"


class PreferenceHyperparameters(Hyperparameters):
    """What preference training (DPO, ORPO, KTO) adds."""

    beta: Annotated[float, Field(gt=0, le=10)] | Auto = "auto"


class KtoHyperparameters(PreferenceHyperparameters):
    """What KTO adds: how much answers count that were liked, and that were not; "auto" makes up for unequal numbers."""

    desirable_weight: Annotated[float, Field(gt=0, le=100)] | Auto = "auto"
    undesirable_weight: Annotated[float, Field(gt=0, le=100)] | Auto = "auto"


class Supervised(Body):
    """The settings of supervised fine-tuning."""

    hyperparameters: Hyperparameters = Hyperparameters()


class PreferenceSettings(Body):
    """The settings of direct preference optimisation, and of odds ratio preference optimisation."""

    hyperparameters: PreferenceHyperparameters = PreferenceHyperparameters()


class Kto(Body):
    """The settings of Kahneman-Tversky optimisation."""

    hyperparameters: KtoHyperparameters = KtoHyperparameters()


class Method(Body):
    """How to train: `type`, and the settings under the field of the same name."""

    type: MethodName = "supervised"
    supervised: Supervised = Supervised()
    dpo: PreferenceSettings = PreferenceSettings()
    orpo: PreferenceSettings = PreferenceSettings()
    kto: Kto = Kto()

    @property
    def chosen(self) -> Hyperparameters:
        """The hyperparameters of the method that `type` names."""
        settings: Supervised | PreferenceSettings | Kto = getattr(self, self.type)
        return settings.hyperparameters


class DatasetUse(Body):
    """How a file is used: its `format` ("auto": found by its columns), at most how many of its rows, drawn by the job's
    seed, and how often each of them is seen in an epoch.
    """

    file: str
    format: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")] = "auto"
    max_rows: Annotated[int, Field(ge=1)] | None = None
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0


class HubPush(Body):
    """Where a finished model is sent: a repository of a model hub, and what of it. The hub's token is the worker's."""

    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}$")]
    content: Literal["adapter", "gguf"] = "adapter"
    visibility: Literal["private", "public"] = "private"


class JobCreate(Body):
    """The body of `POST /v1/fine_tuning/jobs`. `model_name` is the name that the result serves under, `parameters` are
    Ollama's options (stop strings too) that it serves with; those not named are the base model's. `system` is the
    system prompt that it serves with; without it, one that every training row begins with is taken. `datasets` says
    how the training and the validation file are used, and names further files that are trained on beside the first.
    `push` sends the result to a model hub, where the worker's settings allow the repository.
    """

    model: Annotated[str, Field(min_length=1, max_length=256)]
    training_file: str
    validation_file: str | None = None
    datasets: Annotated[tuple[DatasetUse, ...], Field(max_length=64)] = ()
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    model_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    method: Method = Method()
    hyperparameters: Hyperparameters | None = None  # OpenAI's older place for them
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    integrations: list[Any] | None = None
    parameters: dict[str, bool | int | float | str | list[str]] | None = None
    system: Annotated[str, Field(max_length=32_768)] | None = None
    push: HubPush | None = None


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class JobObject(BaseModel):
    """A fine-tuning job. Times are in seconds; `estimated_finish` is there while it trains."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None = None
    estimated_finish: int | None = None
    model: str
    fine_tuned_model: str | None = None
    organization_id: str
    result_files: list[str] = []
    status: JobStatus
    trained_tokens: int | None = None
    training_file: str
    validation_file: str | None = None
    seed: int
    hyperparameters: dict[str, Any] = {}
    method: dict[str, Any]
    integrations: list[Any] = []
    metadata: dict[str, str] = {}
    error: JobError | None = None


class EventObject(BaseModel):
    """A job's event. `data` of a `metrics` event has step, total_steps, train_loss, learning_rate, tokens_per_second,
    memory_bytes and eta_seconds.
    """

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] = {}


class CheckpointMetrics(BaseModel):
    """Losses in nats a token, accuracies from 0 to 1; what was not measured is left out."""

    step: float
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class CheckpointObject(BaseModel):
    """A whole checkpoint of a job."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics
