"""Connections for reading: used again, few, and gone with the file."""

import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from tunesmith_rag import readers
from tunesmith_rag.index import Chunk
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.readers import Readers


def database(path: Path, content: str) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE words (word)")
    connection.execute("INSERT INTO words VALUES (?)", (content,))
    connection.commit()
    connection.close()
    return path


def word(connection: sqlite3.Connection | None) -> str:
    assert connection is not None
    return str(connection.execute("SELECT word FROM words").fetchone()[0])


def open_files(folder: Path) -> list[str]:
    """Return the files in a folder that this process has open, removed ones included."""
    names = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them is closed by now
            names.append(str(link.readlink()))
    return sorted(name for name in names if name.startswith(str(folder)))


def test_a_connection_is_used_again_and_never_by_two_at_once(tmp_path: Path) -> None:
    path, pool = database(tmp_path / "a", "one"), Readers()
    with pool.reading(path) as first, pool.reading(path) as second:
        assert first is not second
    with pool.reading(path) as third:
        assert third in (first, second)
        assert word(third) == "one"
    pool.close()
    assert open_files(tmp_path) == []


def test_a_file_that_is_not_there_is_none_and_is_not_made(tmp_path: Path) -> None:
    with Readers().reading(tmp_path / "a") as nothing:
        assert nothing is None
    assert list(tmp_path.iterdir()) == []


def test_only_some_stay_open_those_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_MOST_IDLE", 2)
    pool = Readers()
    paths = {name: database(tmp_path / name, name) for name in "abcd"}
    for name in "abcad":
        with pool.reading(paths[name]) as one:
            assert word(one) == name
    assert open_files(tmp_path) == [str(tmp_path / "a"), str(tmp_path / "d")]
    pool.close()


def test_a_removed_file_is_let_go_of_by_those_who_read_it_too(tmp_path: Path) -> None:
    path, pool = database(tmp_path / "a", "old"), Readers()
    with pool.reading(path), pool.reading(path):  # two that are idle afterwards
        pass
    with pool.reading(path) as using:
        path.unlink()
        pool.forget(path)
        assert word(using) == "old"
    assert open_files(tmp_path) == []
    with pool.reading(database(path, "new")) as other:
        assert word(other) == "new"
    pool.close()


def test_a_file_that_another_process_put_in_place_is_read(tmp_path: Path) -> None:
    path, pool = database(tmp_path / "a", "old"), Readers()
    with pool.reading(path) as before:
        assert word(before) == "old"
    database(tmp_path / "b", "new").replace(path)
    with pool.reading(path) as after:
        assert word(after) == "new"
    pool.close()


def test_a_connection_that_failed_is_not_used_again(tmp_path: Path) -> None:
    path, pool = database(tmp_path / "a", "one"), Readers()
    with pytest.raises(sqlite3.OperationalError), pool.reading(path) as failing:
        assert failing is not None
        failing.execute("SELECT nothing FROM nowhere")
    assert open_files(tmp_path) == []


async def test_a_store_that_was_searched_leaves_nothing_open_when_it_is_removed(tmp_path: Path) -> None:
    lexical = LexicalIndex(tmp_path)
    for text in ("a pump", "another pump"):
        await lexical.add("vs-1", [Chunk("doc", 0, 1, text)], {})
        assert [hit.chunk.text for hit in (await lexical.search("vs-1", ["pump"], 5, None))[0]] == [text]
        await lexical.remove_store("vs-1")
        assert (open_files(tmp_path), list(tmp_path.iterdir())) == ([], [])
    lexical.close()
