"""Model names as Ollama reads them: ``[host/][namespace/]model[:tag]``."""

import re
from dataclasses import dataclass
from pathlib import Path

from tunesmith_shared.errors import BadRequest

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

CANDIDATES = "tunesmith-candidates"
"""The namespace of fine-tuned models that have not shown yet that they load and answer; nobody is shown them."""

# Every part starts with a letter, digit or underscore, which also keeps "..", "-x" and "/x" out.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_MODEL_OR_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A complete, checked model name. Comparison is by ``key``, since names ignore case."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Read a name and fill in the defaults. Raises BadRequest for what cannot be a name."""
        rest, tag = text, DEFAULT_TAG
        if text.rfind(":") > text.rfind("/"):
            rest, tag = text.rsplit(":", 1)
        parts = rest.removeprefix("https://").removeprefix("http://").split("/")
        if len(parts) > 3:
            raise BadRequest("invalid model name", param="model")
        host, namespace = DEFAULT_HOST, DEFAULT_NAMESPACE
        if len(parts) == 3:
            host, namespace = parts[0], parts[1]
        elif len(parts) == 2:
            namespace = parts[0]
        return cls.from_path(Path(host, namespace, parts[-1], tag))

    @classmethod
    def from_path(cls, path: Path) -> "ModelName":
        """The name of a manifest's place below ``manifests/``. Raises BadRequest when it is none."""
        patterns = (_HOST, _NAMESPACE, _MODEL_OR_TAG, _MODEL_OR_TAG)
        parts = path.parts
        if len(parts) != 4 or not all(map(re.Pattern.fullmatch, patterns, parts)):
            raise BadRequest("invalid model name", param="model")
        return cls(*parts)

    @property
    def display(self) -> str:
        """The shortest spelling that reads back as this name; the tag is always shown."""
        short = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{short}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{short}"
        return short

    @property
    def key(self) -> str:
        """The same text for all spellings of one name."""
        return str(self.path).lower()

    @property
    def path(self) -> Path:
        """Where the manifest lies below ``manifests/``."""
        return Path(self.host, self.namespace, self.model, self.tag)
