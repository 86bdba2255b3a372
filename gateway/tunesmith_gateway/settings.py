"""The gateway's settings, beside those that every service has."""

from pathlib import Path

from pydantic import Field, SecretStr

from tunesmith_shared.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Read once, at the start. Sizes are in MiB, times in seconds."""

    api_key: SecretStr = Field(default=SecretStr(""), description="The first administrator key; made when absent.")
    default_model: str = Field(default="smollm2:135m", description="What plain requests without a model get.")
    upload_limit_mb: int = Field(default=1024, ge=1)
    body_limit_mb: int = Field(default=32, ge=1, description="The largest body that is no upload.")
    connect_timeout: float = Field(default=5.0, gt=0)
    first_byte_timeout: float = Field(default=600.0, gt=0, description="Loading a model and reading the prompt count.")
    import_wait: float = Field(default=60.0, ge=0, description="How long /importDocument waits before it answers 202.")
    chunks_per_answer: int = Field(default=3, ge=1, le=20, description="How many chunks a grounded prompt holds.")
    queries_per_answer: int = Field(
        default=1, ge=1, le=8, description="Versions of a question about documents; the model writes the others."
    )
    requests_per_minute: int = Field(default=0, ge=0, description="Of one key; 0 is no limit, as in the next two.")
    tokens_per_minute: int = Field(default=0, ge=0, description="Of one key, prompts and answers together.")
    concurrency: int = Field(default=0, ge=0, description="Generations of one key at once.")
    running_generations: int = Field(default=64, ge=0, description="Of all keys at once; the others wait.")
    waiting_generations: int = Field(default=256, ge=0, description="How many wait before more are refused.")
    batch_concurrency: int = Field(default=4, ge=1, le=256, description="How many lines of batches run at once.")

    @property
    def api_key_file(self) -> Path:
        """Where a key that the gateway made is kept for the local console and command line."""
        return self.data_dir / "secrets" / "api_key"
