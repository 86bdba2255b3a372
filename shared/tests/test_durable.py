"""What `python -m tunesmith_shared.migrate` makes for the workflows of the services."""

import os
import subprocess
import sys

import psycopg
import pytest

from tunesmith_shared.durable import SERVICES
from tunesmith_shared.testing import SERVER_URL


@pytest.mark.skipif(
    not SERVER_URL.startswith("postgres"), reason="on PostgreSQL only (make test-postgres): SQLite has a file a service"
)
def test_a_migration_makes_the_tables_of_every_services_workflows(database_url: str) -> None:
    command = [sys.executable, "-m", "tunesmith_shared.migrate"]
    for _ in range(2):  # a second one finds everything there
        subprocess.run(command, env={**os.environ, "TUNESMITH_DATABASE_URL": database_url}, check=True)
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'workflow_status'").fetchall()
    assert {schema for (schema,) in rows} == {f"dbos_{name}" for name in SERVICES}
