"""The preview of a fine-tuning job: `POST /v1/fine_tuning/jobs/preview`, with the body that creates one."""

from typing import Any, Literal

from pydantic import BaseModel


class DatasetPreview(BaseModel):
    """A dataset to train on: its format, its rows and how many of them are used, and those that are too long, with
    what becomes of them.
    """

    file: str
    filename: str
    format: str
    rows: int
    used_rows: int
    weight: float
    too_long_rows: list[int]
    too_long_are: Literal["refused", "truncated", "left out"]


class PreviewPiece(BaseModel):
    """A piece of what the model reads. What is not `learnt` is masked: it does not count in the loss."""

    text: str
    learnt: bool
    tokens: int


class PreviewedRow(BaseModel):
    """A row as the model reads it. `cut_tokens` at its end are beyond `max_length`."""

    filename: str
    row: int
    pieces: list[PreviewPiece]
    tokens: int
    learnt_tokens: int
    cut_tokens: int


class TokenCounts(BaseModel):
    """Tokens of a row (least, median, most), and of all rows in an epoch. `counted_rows` were looked at."""

    min: int
    median: float
    max: int
    total: int
    learnt: int
    counted_rows: int


class PreviewEstimate(BaseModel):
    """What training will take, reckoned from the model's shape and the machine's pace at that moment: orders of
    magnitude to decide by. Loading, evaluation and export are not in it.
    """

    seconds: int
    memory_bytes: int
    memory_limit_bytes: int | None
    device: str
    quantization: str
    parameters: int
    learnt_parameters: int


class JobPreview(BaseModel):
    """What a job would do."""

    object: Literal["fine_tuning.job.preview"] = "fine_tuning.job.preview"
    model: str
    base_model: str
    method: str
    datasets: list[DatasetPreview]
    rows: int
    tokens: TokenCounts
    samples: list[PreviewedRow]
    hyperparameters: dict[str, Any]
    steps: int
    estimate: PreviewEstimate
