"""Uploads and results: their rows, and their bytes in the file store."""

import codecs
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path

from fastapi import UploadFile
from sqlalchemy import delete, select

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import BadRequest, NotFound
from tunesmith_shared.files import FileStore
from tunesmith_shared.tables import File

_CHUNK = 1 << 20
_NOT_FOR_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7")


class FileService:
    """An owner's files. The row is written after the bytes, so a file that is listed is whole."""

    def __init__(self, database: Database, store: FileStore, limit_bytes: int) -> None:
        self._database = database
        self._store = store
        self._limit = limit_bytes

    async def create(self, owner: str, upload: UploadFile, purpose: str) -> File:
        """Store an upload. Raises `BadRequest` without a usable file name or with an encoding that is not known,
        `TooLarge` and `StorageFull`.
        """
        filename = checked_filename(upload.filename)
        encoding = declared_encoding(upload.content_type)
        stored = await self._store.save(_chunks(upload), self._limit)
        row = File(
            id=stored.id,
            owner=owner,
            filename=filename,
            purpose=purpose,
            bytes=stored.bytes,
            sha256=stored.sha256,
            created_at=now(),
            encoding=encoding,
        )
        async with self._database.session() as session:
            session.add(row)
        return row

    async def page(
        self, owner: str, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> list[File]:
        """Return up to `limit` files, by time of upload, beginning after the file `after`."""
        order = File.id.desc() if newest_first else File.id.asc()
        query = select(File).where(File.owner == owner).order_by(order).limit(limit)
        if purpose is not None:
            query = query.where(File.purpose == purpose)
        if after is not None:
            query = query.where(File.id < after if newest_first else File.id > after)
        async with self._database.session() as session:
            return list(await session.scalars(query))

    async def get(self, owner: str, file_id: str) -> File:
        """Return one file's row. Raises `NotFound`."""
        async with self._database.session() as session:
            row = await session.scalar(select(File).where(File.id == file_id, File.owner == owner))
        if row is None:
            raise NotFound(f"There is no file '{file_id}'.", param="file_id")
        return row

    async def find(self, owner: str, name_or_id: str) -> File:
        """Return the file of this id, or the newest of this name. Raises `NotFound`."""
        either = (File.id == name_or_id) | (File.filename == name_or_id)
        query = select(File).where(File.owner == owner, either).order_by(File.id.desc()).limit(1)
        async with self._database.session() as session:
            row = await session.scalar(query)
        if row is None:
            raise NotFound(f"There is no file '{name_or_id}'.", param="file")
        return row

    def path(self, row: File) -> Path:
        """Return where the bytes of a file are."""
        return self._store.path(row.id)

    async def delete(self, owner: str, file_id: str) -> None:
        """Remove a file. Raises `NotFound`."""
        row = await self.get(owner, file_id)
        async with self._database.session() as session:
            await session.execute(delete(File).where(File.id == row.id, File.owner == owner))
        self._store.delete(row.id)


def checked_filename(name: str | None) -> str:
    """Return the name of an upload. Raises `BadRequest` for an empty name and for one that is a path or hides one."""
    cleaned = (name or "").strip()
    if not cleaned or len(cleaned) > 255 or cleaned.startswith(("-", ".")) or any(c in cleaned for c in '/\\;\0\r\n"'):
        raise BadRequest(
            "The file needs a plain name: at most 255 characters, no '/', '\\', ';', quotes or line breaks, and no "
            "leading '.' or '-'.",
            param="file",
        )
    return cleaned


def declared_encoding(content_type: str | None) -> str | None:
    """Return the encoding that an upload's part declares (`text/csv; charset=windows-1252`), in Python's spelling.

    Raises `BadRequest` for a name that is no encoding of text.
    """
    header = Message()
    header["content-type"] = content_type or ""
    name = header.get_param("charset")
    if not isinstance(name, str) or not name:
        return None
    try:
        "a".encode(name)  # Python also calls what makes bytes of bytes a codec
        known = codecs.lookup(name).name
    except (LookupError, TypeError, ValueError):
        known = None
    if known is None or known in _NOT_FOR_FILES:
        raise BadRequest(
            f"The file's charset '{name[:40]}' is not known; try utf-8, utf-16, windows-1252 or shift_jis.",
            param="file",
        )
    return known


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await upload.read(_CHUNK):
        yield chunk
