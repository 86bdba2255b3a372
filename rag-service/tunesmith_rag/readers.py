"""Connections that read the full-text files of vector stores, kept open from one search to the next.

A search asks a store's file three times, and to open it takes SQLite longer than most questions: it reads the schema
and the structure of the index anew each time, with an empty cache.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BUSY_SECONDS = 30.0
"""How long SQLite waits for another connection that is writing."""
_MOST_IDLE = 16
"""Each keeps up to 2 MiB of its file in memory."""


@dataclass(frozen=True)
class _Reader:
    """A connection and the file that it has open, which may no longer be the one at `path`."""

    path: Path
    file: tuple[int, int]
    connection: sqlite3.Connection


class Readers:
    """Connections for reading, each used by one thread at a time; of the files that were read last they stay open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []

    @contextmanager
    def reading(self, path: Path) -> Iterator[sqlite3.Connection | None]:
        """Give a connection to the database at `path` for the block; None when there is no such file."""
        file = _file_at(path)
        if file is None:
            yield None
            return
        reader = self._taken(path, file) or _opened(path, file)
        try:
            yield reader.connection
        except BaseException:
            reader.connection.close()
            raise
        self._put_back(reader)

    def forget(self, path: Path) -> None:
        """Close what is open of a file that was removed; a connection that is being used follows when it is done."""
        with self._lock:
            gone = [reader for reader in self._idle if reader.path == path]
            self._idle = [reader for reader in self._idle if reader.path != path]
        _close(gone)

    def close(self) -> None:
        """Close all that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        _close(idle)

    def _taken(self, path: Path, file: tuple[int, int]) -> _Reader | None:
        with self._lock:
            found = next(
                (reader for reader in reversed(self._idle) if (reader.path, reader.file) == (path, file)), None
            )
            if found:
                self._idle.remove(found)
        return found

    def _put_back(self, reader: _Reader) -> None:
        gone = [reader]
        with self._lock:  # so that `forget` comes after it where the file is removed meanwhile
            if _file_at(reader.path) == reader.file:
                self._idle.append(reader)
                gone, self._idle = self._idle[:-_MOST_IDLE], self._idle[-_MOST_IDLE:]
        _close(gone)


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at `path` from one that had its name before."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _opened(path: Path, file: tuple[int, int]) -> _Reader:
    # Any thread may use it next, though never two at once.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA temp_store = MEMORY")
    return _Reader(path, file, connection)


def _close(readers: list[_Reader]) -> None:
    for reader in readers:
        reader.connection.close()
