"""The bytes of uploaded and produced files, by file id. What is known about a file is in the `files` table."""

import hashlib
import os
import re
from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path

import anyio

from tunesmith_shared.errors import StorageFull, TooLarge
from tunesmith_shared.ids import new_id

_ID = re.compile(r"file-[0-9a-z]{24}")


@dataclass(frozen=True)
class StoredFile:
    """What `save` wrote: the new id, the size in bytes and the hexadecimal sha256."""

    id: str
    bytes: int
    sha256: str


class FileStore:
    """A folder with one file an upload, named by its id; a file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, file_id: str) -> Path:
        """Return where the bytes of `file_id` are. Ids come from `new_id`, so nothing else can name a path."""
        if not _ID.fullmatch(file_id):
            raise ValueError(f"not a file id: {file_id!r}")
        return self.folder / file_id

    async def save(self, chunks: AsyncIterable[bytes], limit: int | None = None) -> StoredFile:
        """Write `chunks` as a new file: to a temporary name, flushed to disk, then renamed.

        Raises `TooLarge` above `limit` bytes and `StorageFull` when the disk is full; nothing is left behind then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file_id, digest, size = new_id("file"), hashlib.sha256(), 0
        draft = self.folder / f".{file_id}.part"
        try:
            async with await anyio.open_file(draft, "wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if limit is not None and size > limit:
                        raise TooLarge(f"The file is larger than the limit of {limit // 2**20} MiB.", param="file")
                    digest.update(chunk)
                    await file.write(chunk)
                await file.flush()
                await anyio.to_thread.run_sync(os.fsync, file.wrapped.fileno())
            draft.rename(self.path(file_id))
        except OSError as error:
            if error.errno == 28:
                raise StorageFull(
                    "The disk is full: the file was not stored. Free some space, then send it again."
                ) from error
            raise
        finally:
            draft.unlink(missing_ok=True)
        return StoredFile(file_id, size, digest.hexdigest())

    def delete(self, file_id: str) -> None:
        """Remove the bytes of `file_id`; it is no error when they are gone."""
        self.path(file_id).unlink(missing_ok=True)
