"""Where Chroma is, chosen in one place: in this process on a folder that it alone owns, or on a server."""

import fcntl
import os
import shutil
import sqlite3
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import chromadb
import httpx
from chromadb.api import ClientAPI
from chromadb.api.client import Client
from chromadb.config import Settings

from tunesmith_rag.damage import damaged
from tunesmith_rag.index import OWN_PREFIX
from tunesmith_rag.vectors import Chroma
from tunesmith_shared.errors import Conflict, Unavailable

_SERVER_PORT = 8000
_ENDING_SECONDS, _LOOK_SECONDS = 30, 0.05


def open_vectors(chroma_url: str, data_dir: Path, owner: int, *, anew: bool) -> Chroma:
    """Connect to the Chroma server at `chroma_url`, or open `<data_dir>/chroma` for the process `owner` when there is
    none; with `anew` nothing of what was there is left.

    Raises `Conflict` when another process has the folder open: Chroma's files do not survive two writers, and
    `Unavailable` when the server does not answer. A folder that cannot be read is no error here: every call says so.
    """
    return ChromaServer(chroma_url, anew=anew) if chroma_url else ChromaFolder(data_dir, owner, anew=anew)


class ChromaFolder:
    """Chroma in this process, on a folder that no other process may open until this is closed."""

    def __init__(self, data_dir: Path, owner: int, *, anew: bool) -> None:
        self._folder = data_dir / "chroma"
        self._lock = _own(data_dir / "chroma.lock", self._folder, owner)
        self._client: Client | None = None
        self._damage = self.trace = ""
        if anew:
            self._set_aside()
        try:
            self._open()
        except Exception as error:
            # Whatever Chroma and SQLite say about bytes that are not theirs; the service runs on and reports it.
            self._damage, self.trace = str(error), traceback.format_exc()

    @property
    def client(self) -> ClientAPI:
        """Chroma's client. Raises `Unavailable` when the folder could not be opened."""
        if self._client is None:
            raise damaged(self._damage)
        return self._client

    def close(self) -> None:
        """Close the database and let other processes have the folder."""
        if self._client is not None:
            self._client.close()
        self._lock.close()

    def _set_aside(self) -> None:
        """Keep what is there beside the folder, until the next time."""
        aside = self._folder.with_name("chroma.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        if self._folder.exists():
            self._folder.rename(aside)

    def _open(self) -> None:
        remove_leftovers(self._folder)
        client = chromadb.PersistentClient(self._folder, settings=_settings())
        assert isinstance(client, Client)  # noqa: S101 - what its constructor returns
        self._client = client


class ChromaServer:
    """Chroma as a server, which may hold collections of others, too."""

    trace = ""

    def __init__(self, url: str, *, anew: bool) -> None:
        self.client = _server(url)
        for collection in self.client.list_collections() if anew else ():
            if collection.name.startswith(OWN_PREFIX):
                self.client.delete_collection(collection.name)

    def close(self) -> None:
        """Nothing to close."""


def _server(url: str) -> ClientAPI:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else _SERVER_PORT)
    try:
        return chromadb.HttpClient(parts.hostname or "localhost", port, ssl=secure, settings=_settings())
    except (ValueError, httpx.TransportError) as error:  # its constructor asks the server who this is
        raise Unavailable(
            f"The vector database at {url} does not answer: {error} Start it, or correct TUNESMITH_CHROMA_URL.",
        ) from error


def _settings() -> Settings:
    return Settings(anonymized_telemetry=False)


def _own(path: Path, folder: Path, owner: int) -> IO[str]:
    """Lock the folder for this process, which belongs to the process `owner`. The system drops the lock when this
    process ends, however it ends; that of an owner that was killed may need a moment for it, and is waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("a+")
    patience = time.monotonic() + _ENDING_SECONDS
    while not _locked(lock):
        lock.seek(0)
        other = lock.read().strip()
        if time.monotonic() > patience or not other.isdecimal() or _runs(int(other)):
            lock.close()
            raise Conflict(
                f"The vector database in {folder} is in use by process {other or 'unknown'}, and only one process may "
                "write to it. Stop that process, or run Chroma as a server and set TUNESMITH_CHROMA_URL.",
                code="index_in_use",
            )
        time.sleep(_LOOK_SECONDS)
    lock.truncate(0)
    lock.write(str(owner))
    lock.flush()
    return lock


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove the files of deleted collections, which Chroma 1.5 leaves behind. Only while the folder is not open."""
    database = folder / "chroma.sqlite3"
    if not database.exists():
        return
    candidates = [entry for entry in folder.iterdir() if entry.is_dir()]
    with closing(sqlite3.connect(database)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'segments'").fetchone():
            return
        used = {row[0] for row in connection.execute("SELECT id FROM segments")}
    for entry in candidates:
        if entry.name not in used:
            shutil.rmtree(entry, ignore_errors=True)
