"""Content-addressed files: ``blobs/sha256-<hex>``, never visible half written."""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from tunesmith_shared.errors import BadRequest, StorageFull

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_CHUNK_BYTES = 1 << 20


def is_digest(text: str) -> bool:
    """Whether the text is ``sha256:<hex>`` or ``sha256-<hex>``."""
    return _DIGEST.fullmatch(text) is not None


class BlobStore:
    """The blobs of a models folder. Every write goes to ``.incoming/``, is flushed, checked and renamed.

    ``.incoming/`` lies beside ``blobs/`` and not in it, because a starting Ollama deletes every
    file of ``blobs/`` that is not named by a digest.
    """

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        self.blobs_dir = models_dir / "blobs"
        self.incoming_dir = models_dir / ".incoming"

    def blob_path(self, digest: str) -> Path:
        """Where a blob lies, there or not. Raises BadRequest for what is no digest."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise BadRequest("invalid digest format", param="digest")
        return self.blobs_dir / f"sha256-{match[1]}"

    def has_blob(self, digest: str) -> bool:
        """Whether the blob is there; its content is not read again."""
        return self.blob_path(digest).is_file()

    def put_blob_bytes(self, content: bytes) -> str:
        """Store small content; gives its digest."""
        with self._incoming() as (file, temporary):
            file.write(content)
            return self._commit(file, temporary, hashlib.sha256(content).hexdigest())

    def put_blob_file(self, path: Path) -> str:
        """Store a copy of a file, hashed while it is copied; gives its digest. Raises StorageFull."""
        self.require_room(path.stat().st_size)
        with path.open("rb") as source, self._incoming() as (file, temporary):
            content_hash = hashlib.sha256()
            while chunk := source.read(_CHUNK_BYTES):
                content_hash.update(chunk)
                file.write(chunk)
            return self._commit(file, temporary, content_hash.hexdigest())

    def adopt_blob_file(self, path: Path) -> str:
        """Store a file by a hard link where the file system allows it, else by a copy; gives its digest.

        For files that their owner will not change any more: the blob and the file are then one.
        """
        with storage_errors(self.blobs_dir), contextlib.ExitStack() as cleanup:
            self.incoming_dir.mkdir(parents=True, exist_ok=True)
            temporary = self.incoming_dir / f"link-{os.getpid()}-{os.urandom(8).hex()}"
            try:
                temporary.hardlink_to(path.resolve(strict=True))
            except OSError as error:
                if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    return self.put_blob_file(path)
                raise
            cleanup.callback(temporary.unlink, missing_ok=True)
            with temporary.open("rb") as file:
                hex_digest = hashlib.file_digest(file, "sha256").hexdigest()
                return self._commit(file, temporary, hex_digest)

    async def write_blob_stream(self, digest: str, chunks: AsyncIterator[bytes]) -> None:
        """Store an upload that must have this digest.

        Raises BadRequest when it has another, StorageFull when the disk ends; nothing is left then.
        """
        expected = self.blob_path(digest)
        content_hash = hashlib.sha256()
        with self._incoming() as (file, temporary):
            async for chunk in chunks:
                await asyncio.to_thread(_write_and_hash, file, content_hash, chunk)
            found = content_hash.hexdigest()
            if expected.name != f"sha256-{found}":
                raise BadRequest(f"digest mismatch, expected {digest!r}, got 'sha256:{found}'", param="digest")
            await asyncio.to_thread(self._commit, file, temporary, found)

    def partial_path(self, digest: str) -> Path:
        """Where a download of this blob grows, and goes on after it was cut off."""
        self.incoming_dir.mkdir(parents=True, exist_ok=True)
        return self.incoming_dir / f"{self.blob_path(digest).name}.partial"

    def finish_partial(self, digest: str) -> None:
        """Store a download that is whole. Raises BadRequest, and removes it, when it has another digest."""
        path = self.partial_path(digest)
        with storage_errors(self.blobs_dir), path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if self.blob_path(digest).name != f"sha256-{found}":
                path.unlink()
                raise BadRequest(f"digest mismatch, expected {digest!r}, got 'sha256:{found}'", param="digest")
            self._commit(file, path, found)

    def require_room(self, size: int) -> None:
        """Raise StorageFull when the disk has not so many bytes left."""
        self.models_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.models_dir).free
        if free < size:
            raise StorageFull(
                f"the model store needs {size / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free ({self.blobs_dir}); "
                "free some space and try again"
            )

    def _commit(self, file: IO[bytes], temporary: Path, hex_digest: str) -> str:
        """Give a finished temporary file its name; afterwards it survives a power cut."""
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.utime(file.fileno())  # a link carries its source's old time, and old blobs are pruned
        os.fsync(file.fileno())
        self.blobs_dir.mkdir(parents=True, exist_ok=True)
        temporary.replace(self.blobs_dir / f"sha256-{hex_digest}")
        sync_directory(self.blobs_dir)
        return f"sha256:{hex_digest}"

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[tuple[IO[bytes], Path]]:
        """A temporary file to write, removed again unless it was renamed. Turns a full disk into StorageFull."""
        with storage_errors(self.blobs_dir):
            self.incoming_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.incoming_dir, prefix="blob-", delete=False) as file:
                temporary = Path(file.name)
                try:
                    yield file, temporary
                finally:
                    temporary.unlink(missing_ok=True)


def _write_and_hash(file: IO[bytes], content_hash: "hashlib._Hash", chunk: bytes) -> None:
    content_hash.update(chunk)
    file.write(chunk)


@contextlib.contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn "no space left" inside the block into StorageFull, which says where."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"the disk of the model store is full ({where}); free some space and try again"
            ) from error
        raise


def sync_directory(directory: Path) -> None:
    """Flush a directory, so that renames in it survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
