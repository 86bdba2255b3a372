"""The models of a store: manifests by name, listing, deletion, pruning."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from tunesmith_shared.errors import BadRequest, NotFound
from tunesmith_shared.names import ModelName
from tunesmith_shared.store.blobs import BlobStore, is_digest, storage_errors, sync_directory
from tunesmith_shared.store.manifest import Layer, Manifest, ModelConfig

# Ollama's rule: a younger unreferenced blob may belong to a model that is being made.
PRUNE_AGE_SECONDS = 3600


class StoredModel(NamedTuple):
    """One listed model; ``modified_at`` is the manifest's change time in unix seconds."""

    name: ModelName
    manifest: Manifest
    modified_at: float


class ModelStore(BlobStore):
    """A models folder in Ollama's layout. Several processes may use it at once.

    Not promised: that a real Ollama running on the same folder takes part in the lock; it does not.
    """

    def __init__(self, models_dir: Path) -> None:
        super().__init__(models_dir)
        self.manifests_dir = models_dir / "manifests"

    def list(self) -> list[StoredModel]:
        """All models whose blobs are whole, newest first. Broken ones are left out, as Ollama does."""
        found: list[StoredModel] = []
        for path in sorted(self.manifests_dir.glob("*/*/*/*")):
            with contextlib.suppress(BadRequest, ValidationError, OSError):
                name = ModelName.from_path(path.relative_to(self.manifests_dir))
                manifest = Manifest.decode(path.read_bytes())
                if not self._missing(manifest):
                    found.append(StoredModel(name, manifest, path.stat().st_mtime))
        return sorted(found, key=lambda model: model.modified_at, reverse=True)

    def resolve(self, name: ModelName) -> ModelName:
        """The spelling under which a model is stored. Raises NotFound."""
        if (self.manifests_dir / name.path).is_file():
            return name
        for path in self.manifests_dir.glob("*/*/*/*"):
            stored = path.relative_to(self.manifests_dir)
            if str(stored).lower() == name.key and path.is_file():
                return ModelName.from_path(stored)
        raise NotFound(
            f"model '{name.display.removesuffix(':latest')}' not found", param="model", code="model_not_found"
        )

    def has_model(self, name: ModelName) -> bool:
        """Whether a manifest of that name is there."""
        try:
            self.resolve(name)
        except NotFound:
            return False
        return True

    def read_model(self, name: ModelName) -> StoredModel:
        """A model by name, in any case. Raises NotFound."""
        stored = self.resolve(name)
        path = self.manifests_dir / stored.path
        try:
            return StoredModel(stored, Manifest.decode(path.read_bytes()), path.stat().st_mtime)
        except (OSError, ValidationError) as error:
            raise NotFound(f"model '{name.display}' not found: its manifest cannot be read", param="model") from error

    def read_manifest(self, name: ModelName) -> Manifest:
        """The manifest of a model. Raises NotFound."""
        return self.read_model(name).manifest

    def read_blob(self, layer: Layer) -> bytes:
        """A small layer's content. Raises NotFound when the blob is gone."""
        try:
            return self.blob_path(layer.digest).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"blob {layer.digest} is missing from the model store; create the model again") from error

    def read_config(self, manifest: Manifest) -> ModelConfig:
        """The config of a model. Raises NotFound when its blob is gone."""
        return ModelConfig.model_validate_json(self.read_blob(manifest.config))

    def write_manifest(self, name: ModelName, manifest: Manifest) -> None:
        """Let a name point at a model; it is live at once. What only the model before it used is removed.

        Raises BadRequest when a blob is missing.
        """
        with self._lock(), storage_errors(self.manifests_dir):
            missing = self._missing(manifest)
            if missing:
                raise BadRequest(f"blob {missing} is missing or has another size; upload it and try again")
            target = self.manifests_dir / (self.resolve(name).path if self.has_model(name) else name.path)
            replaced = self._decoded(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.incoming_dir.mkdir(parents=True, exist_ok=True)
            descriptor, temporary_name = tempfile.mkstemp(dir=self.incoming_dir, prefix="manifest-")
            temporary = Path(temporary_name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(manifest.encode())
                    file.flush()
                    os.fchmod(file.fileno(), 0o644)
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(target.parent)
            if replaced is not None:
                self._drop_unused(replaced)

    def copy(self, source: ModelName, destination: ModelName) -> None:
        """Give a model a second name. Raises NotFound."""
        self.write_manifest(destination, self.read_manifest(source))

    def delete(self, name: ModelName) -> None:
        """Remove a model and the blobs that no other model uses. Raises NotFound."""
        with self._lock():
            stored, manifest, _ = self.read_model(name)
            path = self.manifests_dir / stored.path
            path.unlink()
            for parent in list(path.parents)[:3]:
                with contextlib.suppress(OSError):
                    parent.rmdir()
            self._drop_unused(manifest)

    def _drop_unused(self, manifest: Manifest) -> None:
        """Remove the blobs of a manifest that is gone, except those that another one uses."""
        kept = self._referenced()
        for layer in manifest.references:
            blob = self.blob_path(layer.digest)
            if blob.name not in kept:
                blob.unlink(missing_ok=True)

    def _decoded(self, path: Path) -> Manifest | None:
        """The manifest in a file; None when there is none that can be read."""
        try:
            return Manifest.decode(path.read_bytes())
        except (OSError, ValidationError):
            return None

    def prune(self) -> int:
        """Delete what nothing refers to, by Ollama's rules at start; gives the number of deleted files."""
        deleted = 0
        oldest_kept = time.time() - PRUNE_AGE_SECONDS
        with self._lock():
            kept = self._referenced()
            for path in self.blobs_dir.glob("*"):
                stale = not is_digest(path.name) or (path.name not in kept and path.stat().st_mtime < oldest_kept)
                if stale and path.is_file():
                    path.unlink()
                    deleted += 1
            for path in self.incoming_dir.glob("*"):
                if path.stat().st_mtime < oldest_kept:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    deleted += 1
        return deleted

    def _missing(self, manifest: Manifest) -> str | None:
        """The digest of a blob that is not there whole; None when all are."""
        for layer in manifest.references:
            try:
                whole = self.blob_path(layer.digest).stat().st_size == layer.size
            except FileNotFoundError:
                whole = False
            if not whole:
                return layer.digest
        return None

    def _referenced(self) -> set[str]:
        """File names of all blobs that some manifest uses, whole models or not."""
        names: set[str] = set()
        for path in self.manifests_dir.glob("*/*/*/*"):
            with contextlib.suppress(ValidationError):
                manifest = Manifest.decode(path.read_bytes())
                names.update(self.blob_path(layer.digest).name for layer in manifest.references)
        return names

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One manifest change at a time on this folder, across processes: a delete never takes a new model's blobs."""
        self.models_dir.mkdir(parents=True, exist_ok=True)
        with (self.models_dir / ".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
