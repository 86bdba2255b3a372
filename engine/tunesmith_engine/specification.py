"""What a model process is started with. Imported by that process too, so it stays light."""

import json
from dataclasses import asdict, dataclass

READY = b"ready\n"
"""What a model process prints when its model is loaded."""

ALIAS = "@tunesmith-served-model@"
"""The name under which every model process answers; the served name takes its place on the way out."""


@dataclass(frozen=True, slots=True)
class Specification:
    """One way to run one model. Equal specifications share one process, whatever names the model has."""

    model_path: str
    adapter_paths: tuple[str, ...]
    embedding: bool
    num_ctx: int
    parallel: int
    num_thread: int
    batch: int
    shift: bool

    def encode(self) -> str:
        """JSON for the child's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Specification":
        """The reverse of encode."""
        fields = json.loads(text)
        return cls(**{**fields, "adapter_paths": tuple(fields["adapter_paths"])})
