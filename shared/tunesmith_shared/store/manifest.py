"""The two JSON documents of a stored model: its manifest and its config."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_PREFIX = "application/vnd.ollama.image."
_DIGEST_PATTERN = r"^sha256[:-][0-9a-f]{64}$"

LayerKind = Literal["model", "projector", "template", "system", "params", "adapter", "license", "messages"]


class Layer(BaseModel):
    """A reference to a blob: what it is, its digest (``sha256:<hex>``) and its size in bytes."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    media_type: str = Field(alias="mediaType")
    digest: str = Field(pattern=_DIGEST_PATTERN)
    size: int = Field(ge=0)
    source: str | None = Field(default=None, alias="from")

    @classmethod
    def of(cls, kind: LayerKind, digest: str, size: int) -> "Layer":
        """A layer of one of Ollama's kinds."""
        return cls(media_type=_LAYER_PREFIX + kind, digest=digest, size=size)

    @property
    def kind(self) -> str:
        """``model``, ``template``, ...; the media type's last word."""
        return self.media_type.removeprefix(_LAYER_PREFIX)


class Manifest(BaseModel):
    """What a name points at: a config and layers."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    schema_version: int = Field(default=2, alias="schemaVersion")
    media_type: str = Field(default=MANIFEST_TYPE, alias="mediaType")
    config: Layer
    layers: tuple[Layer, ...]
    _content: bytes | None = PrivateAttr(default=None)
    _file_digest: str | None = PrivateAttr(default=None)

    @classmethod
    def decode(cls, content: bytes) -> "Manifest":
        """Read a manifest file's bytes. Raises pydantic's ValidationError."""
        manifest = cls.model_validate_json(content)
        manifest._content = content  # noqa: SLF001 - its own class
        manifest._file_digest = hashlib.sha256(content).hexdigest()  # noqa: SLF001 - its own class
        return manifest

    def encode(self) -> bytes:
        """The manifest file's bytes: those that it was read from, so that a copied model keeps its digest."""
        return self._content or self.model_dump_json(by_alias=True, exclude_none=True).encode()

    @property
    def digest(self) -> str:
        """The hex sha256 of the manifest file, which listings show, without a prefix."""
        return self._file_digest or hashlib.sha256(self.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the layers and the config together."""
        return self.config.size + sum(layer.size for layer in self.layers)

    @property
    def references(self) -> tuple[Layer, ...]:
        """Every blob that this model needs."""
        return (self.config, *self.layers)

    def of_kind(self, kind: LayerKind) -> tuple[Layer, ...]:
        """The layers of one kind, in order."""
        return tuple(layer for layer in self.layers if layer.kind == kind)


class ModelConfig(BaseModel):
    """The config blob: how a listing describes the model."""

    model_config = ConfigDict(protected_namespaces=(), extra="allow")

    model_format: str = "gguf"
    model_family: str = ""
    model_families: list[str] | None = None
    model_type: str = ""
    file_type: str = ""
    architecture: str = "amd64"
    os: str = "linux"

    def encode(self) -> bytes:
        """The config blob's bytes."""
        return self.model_dump_json(exclude_none=True).encode()
