"""Which chunks of a store fulfil a condition, as the full-text file knows it: what documents are, and their pages."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tunesmith_rag.filters import holds, keys_of
from tunesmith_rag.index import DOCUMENT, INDEX, PAGE, Filter, chunk_id

_POSITIONS = "SELECT position FROM chunks WHERE document = ?"
_PLACES = "SELECT position, page FROM chunks WHERE document = ?"


@dataclass(frozen=True)
class Documents:
    """The documents that fulfil a condition, and their share of all."""

    ids: frozenset[str] = frozenset()
    share: float = 0.0


def documents_that(connection: sqlite3.Connection, where: Filter) -> Documents | None:
    """Return the documents that fulfil `where`; None when it is not about documents alone."""
    if _about_chunks(where):
        return None
    known = _known(connection)
    ids = frozenset(own[DOCUMENT] for own in known if holds(where, own))
    return Documents(ids, len(ids) / max(1, len(known)))


def chunks_that(connection: sqlite3.Connection, where: Filter) -> list[str]:
    """Return the ids of the chunks that fulfil `where`."""
    if _about_chunks(where):
        places = ((own, place) for own in _known(connection) for place in _places(connection, own))
        return [
            chunk_id(own[DOCUMENT], position)
            for own, (position, page) in places
            if holds(where, {**own, INDEX: position, PAGE: page})
        ]
    chosen = [own[DOCUMENT] for own in _known(connection) if holds(where, own)]
    return [
        chunk_id(document, position)
        for document in chosen
        for (position,) in connection.execute(_POSITIONS, (document,))
    ]


def _about_chunks(where: Filter) -> bool:
    return bool({INDEX, PAGE} & keys_of(where))


def _known(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return what is known of each document."""
    rows = connection.execute("SELECT id, facts FROM documents").fetchall()
    return [{**json.loads(facts), DOCUMENT: document} for document, facts in rows]


def _places(connection: sqlite3.Connection, own: dict[str, Any]) -> Iterator[tuple[int, int]]:
    yield from connection.execute(_PLACES, (own[DOCUMENT],))
