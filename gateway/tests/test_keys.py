from pathlib import Path

import pytest
from sqlalchemy import select, update

from tunesmith_gateway.keys import ADMINISTRATOR, KeyService, NewKey, fingerprint
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Conflict, Unauthorized
from tunesmith_shared.tables import ApiKey


async def test_a_key_is_stored_hashed_and_known_by_its_secret(database: Database) -> None:
    keys = KeyService(database)
    _, secret = await keys.create(NewKey("alice", "laptop"))
    assert (await keys.verify(secret)).owner == "alice"
    async with database.session() as session:
        row = (await session.scalars(select(ApiKey))).one()
    assert row.secret_sha256 == fingerprint(secret)
    assert secret not in (row.prefix, row.name, row.id)


@pytest.mark.parametrize("change", [{"revoked_at": 1}, {"expires_at": now() - 1}])
async def test_a_revoked_or_expired_key_is_refused(database: Database, change: dict[str, int]) -> None:
    keys = KeyService(database)
    _, secret = await keys.create(NewKey("alice", "laptop"))
    async with database.session() as session:
        await session.execute(update(ApiKey).values(**change))
    with pytest.raises(Unauthorized):
        await keys.verify(secret)


async def test_the_first_start_makes_one_key_that_only_its_owner_can_read(database: Database, tmp_path: Path) -> None:
    keys, file = KeyService(database), tmp_path / "secrets" / "api_key"
    await keys.ensure_administrator("", file)
    first = file.read_text()
    await keys.ensure_administrator("", file)
    assert file.read_text() == first
    assert file.stat().st_mode & 0o077 == 0
    assert (await keys.verify(first)).owner == ADMINISTRATOR


async def test_a_configured_key_is_added_beside_others_once(database: Database, tmp_path: Path) -> None:
    keys, file = KeyService(database), tmp_path / "api_key"
    await keys.create(NewKey("alice", "laptop"))
    await keys.ensure_administrator("ts-configured", file)
    await keys.ensure_administrator("ts-configured", file)
    assert (await keys.verify("ts-configured")).owner == ADMINISTRATOR
    assert not file.exists()


async def test_a_key_revoked_elsewhere_is_refused_by_the_next_request_here(
    database: Database, database_url: str
) -> None:
    keys, other_process = KeyService(database), Database(database_url)
    await keys.create(NewKey("root", "administrator"))
    row, secret = await keys.create(NewKey("alice", "laptop", scopes=("chat",)))
    assert (await keys.verify(secret)).scopes == {"chat"}
    await KeyService(other_process).revoke(row.id)
    await other_process.close()
    with pytest.raises(Unauthorized):
        await keys.verify(secret)


async def test_the_last_administrator_cannot_be_shut_out(database: Database) -> None:
    keys = KeyService(database)
    expired, _ = await keys.create(NewKey("root", "old", expires_at=now() - 1))
    first, _ = await keys.create(NewKey("root", "first"))
    with pytest.raises(Conflict, match="last key of an administrator"):
        await keys.revoke(first.id)
    second, _ = await keys.create(NewKey("root", "second"))
    await keys.revoke(first.id)
    await keys.revoke(expired.id)
    with pytest.raises(Conflict):
        await keys.revoke(second.id)
