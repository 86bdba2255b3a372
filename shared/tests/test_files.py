import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tunesmith_shared.errors import TooLarge
from tunesmith_shared.files import FileStore


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def broken() -> AsyncIterator[bytes]:
    yield b"half"
    raise ConnectionResetError


async def test_a_saved_file_is_there_whole(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "files")
    stored = await store.save(chunks(b"abc", b"def"))
    assert store.path(stored.id).read_bytes() == b"abcdef"
    assert (stored.bytes, stored.sha256) == (6, hashlib.sha256(b"abcdef").hexdigest())


async def test_nothing_is_left_of_a_file_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        await FileStore(tmp_path).save(chunks(b"x" * 10, b"x"), limit=10)
    assert list(tmp_path.iterdir()) == []


async def test_nothing_is_left_of_an_upload_that_breaks_off(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        await FileStore(tmp_path).save(broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../etc/passwd", "file-../../x", "file-", "", "file-" + "0" * 23 + "/"])
def test_only_ids_name_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a file id"):
        FileStore(tmp_path).path(name)
