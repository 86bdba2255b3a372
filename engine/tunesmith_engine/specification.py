"""What a model process is started with. Imported by that process too, so it stays light."""

import json
from dataclasses import asdict, dataclass, replace

READY = b"ready\n"
"""What a model process prints when its model is loaded."""

ALIAS = "@tunesmith-served-model@"
"""The name under which every model process answers; the served name takes its place on the way out."""

ERRORS_ONLY = 1
"""llama.cpp's level of logging."""

_EMBEDDING_BATCH_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Specification:
    """One way to run one model. Models whose specifications are equal, or differ in adapters only, share a process."""

    model_path: str
    adapter_paths: tuple[str, ...]
    embedding: bool
    num_ctx: int
    parallel: int
    num_thread: int
    batch: int
    shift: bool
    gpu_layers: int = -1
    bfloat16: bool = False
    """Whether the weights are in bfloat16."""

    @property
    def whole_context(self) -> int:
        """Tokens of context that all slots have together."""
        return self.num_ctx * self.parallel

    @property
    def batch_tokens(self) -> int:
        """Tokens computed in one go. A text to embed must fit into one, and several short ones share it."""
        return max(_EMBEDDING_BATCH_TOKENS, self.num_ctx) if self.embedding else self.batch

    @property
    def shifts(self) -> bool:
        """Whether an answer goes on past the context's end, without what was first."""
        return self.shift and not self.embedding

    @property
    def http_threads(self) -> int:
        """Threads of the HTTP server. Every streaming request holds one, and more than the slots may wait."""
        return max(16, self.parallel * 4)

    def serves(self, wanted: "Specification") -> bool:
        """Whether a process of this specification can answer for `wanted`: the same, with these adapters or more."""
        alike = replace(self, adapter_paths=wanted.adapter_paths) == wanted
        return alike and set(wanted.adapter_paths) <= set(self.adapter_paths)

    def encode(self) -> str:
        """JSON for the child's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Specification":
        """The reverse of encode."""
        fields = json.loads(text)
        return cls(**{**fields, "adapter_paths": tuple(fields["adapter_paths"])})
