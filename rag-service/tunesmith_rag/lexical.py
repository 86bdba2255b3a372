"""The words of all chunks, in SQLite's full-text index (FTS5), ranked by BM25: one file a vector store.

It is kept on disk and follows the chunks as they come and go; nothing is built at a start or a search. A file a store
keeps the statistics of one owner's words from another's ranking, and makes deleting a store the removal of a file.
SQLite orders writers by itself, so this needs no lock of its own, whichever relational database there is.

Like `index.py` this knows nothing about what may be seen; `retrieve.py` asks the database.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tunesmith_rag.among import Documents, chunks_that, documents_that
from tunesmith_rag.bm25 import WordHit, ranked
from tunesmith_rag.damage import damaged
from tunesmith_rag.index import Chunk, Filter
from tunesmith_rag.readers import BUSY_SECONDS, Readers
from tunesmith_rag.terms import TOKENIZER, SharedTerms, shared_terms
from tunesmith_shared.errors import Unavailable

T = TypeVar("T")

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks (
    number INTEGER PRIMARY KEY, document TEXT NOT NULL, position INTEGER NOT NULL, page INTEGER NOT NULL,
    text TEXT NOT NULL, UNIQUE (document, position)
);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    text, content = 'chunks', content_rowid = 'number', tokenize = '{TOKENIZER}'
);
CREATE TRIGGER IF NOT EXISTS chunk_added AFTER INSERT ON chunks BEGIN
    INSERT INTO words (rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER IF NOT EXISTS chunk_removed AFTER DELETE ON chunks BEGIN
    INSERT INTO words (words, rowid, text) VALUES ('delete', old.number, old.text);
END;
"""  # noqa: S608 - the tokenizer is a constant
_AT = "SELECT page, text FROM chunks WHERE document = ? AND position = ?"
_EMPTY = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'chunks')"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY = 0xFF
"""The part of SQLite's error codes that says what kind of error it is."""
_SUFFIX = ".sqlite3"
_THREADS = 4


class LexicalIndex:
    """The full-text files in `folder`, read and written in threads of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lexical")
        self._readers = Readers()
        self._damage: Unavailable | None = None

    async def add(self, store_id: str, chunks: Sequence[Chunk], facts: Mapping[str, Any]) -> None:
        """Write chunks of one document with its `facts`; over those that are there already."""
        if not chunks:
            return
        rows = [(chunk.document_id, chunk.index, chunk.page, chunk.text) for chunk in chunks]

        def write() -> None:
            with self._writing(store_id) as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO documents VALUES (?, ?)", (chunks[0].document_id, json.dumps(dict(facts)))
                )
                connection.executemany(
                    "DELETE FROM chunks WHERE document = ? AND position = ?", [row[:2] for row in rows]
                )
                connection.executemany("INSERT INTO chunks (document, position, page, text) VALUES (?, ?, ?, ?)", rows)

        await self._run(write)

    async def search(
        self, store_id: str, texts: Sequence[str], count: int, where: Filter | None
    ) -> list[list[WordHit]]:
        """Return for each text the `count` chunks that share the rarest words with it, best first.

        A store without chunks and a text without words give empty lists.
        """

        def read() -> list[list[WordHit]]:
            with self._reading(store_id) as connection:
                if connection is None:
                    return [[] for _ in texts]
                return [ranked(connection, text, count, where) for text in texts]

        return await self._run(read)

    async def chunks(self, store_id: str, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], Chunk]:
        """Return those chunks that there are of those at `places`: documents and indexes."""

        def read() -> dict[tuple[str, int], Chunk]:
            with self._reading(store_id) as connection:
                if connection is None:
                    return {}
                found = ((place, connection.execute(_AT, place).fetchone()) for place in places)
                return {place: Chunk(*place, *row) for place, row in found if row is not None}

        return await self._run(read)

    async def documents(self, store_id: str, where: Filter) -> Documents | None:
        """Return the documents that fulfil the condition; None when it is about chunks, too."""

        def read() -> Documents | None:
            with self._reading(store_id) as connection:
                return documents_that(connection, where) if connection else Documents()

        return await self._run(read)

    async def among(self, store_id: str, where: Filter) -> list[str]:
        """Return the ids of the chunks that fulfil the condition."""

        def read() -> list[str]:
            with self._reading(store_id) as connection:
                return chunks_that(connection, where) if connection else []

        return await self._run(read)

    async def texts(self, store_id: str, document_id: str) -> list[str]:
        """Return the texts of a document's chunks in their order."""

        def read() -> list[str]:
            with self._reading(store_id) as connection:
                if connection is None:
                    return []
                query = "SELECT text FROM chunks WHERE document = ? ORDER BY position"
                return [text for (text,) in connection.execute(query, (document_id,))]

        return await self._run(read)

    async def compare(self, store_id: str, questions: Sequence[str], texts: Sequence[str]) -> SharedTerms:
        """Say which terms of `questions`, weighed by their rarity in a store, stand in which of `texts`."""

        def read() -> SharedTerms:
            with self._reading(store_id) as connection:
                if connection is None:
                    nothing = len(questions)
                    return SharedTerms([{}] * nothing, [0.0] * nothing, [False] * nothing, [set() for _ in texts])
                return shared_terms(connection, questions, texts)

        return await self._run(read)

    async def describe(self, store_id: str, document_id: str, facts: Mapping[str, Any]) -> None:
        """Replace the facts of a document; no effect when it has no chunks."""

        def write() -> None:
            if self._path(store_id).exists():
                with self._writing(store_id) as connection:
                    values = (json.dumps(dict(facts)), document_id)
                    connection.execute("UPDATE documents SET facts = ? WHERE id = ?", values)

        await self._run(write)

    async def remove_document(self, store_id: str, document_id: str) -> None:
        """Remove all chunks of a document, from the disk too; it is no error when there are none."""

        def remove() -> None:
            if not self._path(store_id).exists():
                return
            with self._writing(store_id) as connection:
                known = connection.execute("DELETE FROM documents WHERE id = ?", (document_id,)).rowcount
                connection.execute("DELETE FROM chunks WHERE document = ?", (document_id,))
                if known:  # otherwise its words would stay in the index's segments until they are merged one day
                    connection.execute("INSERT INTO words (words) VALUES ('optimize')")
            with self._open(store_id) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        await self._run(remove)

    async def remove_store(self, store_id: str) -> None:
        """Remove a vector store's file; it is no error when there is none."""

        def remove() -> None:
            for path in self._folder.glob(f"{store_id}{_SUFFIX}*"):
                path.unlink(missing_ok=True)
            self._readers.forget(self._path(store_id))

        await self._run(remove)

    async def count(self, store_id: str) -> int:
        """Return how many chunks of a store there are."""

        def count() -> int:
            with self._reading(store_id) as connection:
                if connection is None or connection.execute(_EMPTY).fetchone():
                    return 0
                return int(connection.execute("SELECT count(*) FROM chunks").fetchone()[0])

        return await self._run(count)

    async def verify(self, store_id: str, least: int) -> None:
        """Raise `Unavailable` when the file of a store cannot be read, or has less than `least` chunks.

        From then on `check` raises, too, until the index is begun anew.
        """
        if (found := await self.count(store_id)) < least:
            self._damage = damaged(f"{store_id} has the words of {found} of {least} chunks")
        self.check()

    def check(self) -> None:
        """Raise when a file was found damaged since this was opened or begun anew."""
        if self._damage is not None:
            raise self._damage.with_traceback(None)

    async def start_anew(self) -> None:
        """Remove the files of all stores."""
        for store_id in await self.stores():
            await self.remove_store(store_id)
        self._damage = None

    async def stores(self) -> set[str]:
        """Return the ids of the stores that have a file."""
        return await self._run(lambda: {path.name.split(".")[0] for path in self._folder.glob(f"*{_SUFFIX}*")})

    def close(self) -> None:
        """Wait for calls under way, and close the files."""
        self._threads.shutdown(wait=True)
        self._readers.close()

    def _path(self, store_id: str) -> Path:
        return self._folder / f"{store_id}{_SUFFIX}"

    def _reading(self, store_id: str) -> AbstractContextManager[sqlite3.Connection | None]:
        return self._readers.reading(self._path(store_id))

    @contextmanager
    def _open(self, store_id: str) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path(store_id), timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # what is complete is there after a power cut, too
            connection.execute("PRAGMA secure_delete = ON")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _writing(self, store_id: str) -> Iterator[sqlite3.Connection]:
        """Give a connection with the schema, in one transaction: all of the block is written, or nothing."""
        with self._open(store_id) as connection:
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except sqlite3.OperationalError as error:  # locked for long, or no space
            told = f"The full-text index does not answer ({error}). Try again."
            raise Unavailable(told, retry_after=5) from error
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & _PRIMARY not in _DAMAGED:
                raise
            self._damage = damaged(str(error))
            raise self._damage from error
