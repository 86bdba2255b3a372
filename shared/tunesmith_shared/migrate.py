"""Bring the database to the newest schema: `python -m tunesmith_shared.migrate`; on PostgreSQL, the job queues' too.

Runs before the services start, never inside one. With `--new "what changes"` it writes the next migration from the
difference between the tables and an up-to-date database.
"""

import argparse
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith_shared.settings import ServiceSettings, load_settings

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(database_url: str) -> None:
    """Upgrade the database at `database_url` to the newest schema; does nothing when it is there already."""
    if not _is_newest(database_url):
        from alembic import command  # noqa: PLC0415 - as below

        _run(database_url, lambda config: command.upgrade(config, "head"))


def _is_newest(database_url: str) -> bool:
    """Tell whether a SQLite database needs no migration, without what importing Alembic costs every start: a second."""
    file = Path(database_url.partition(":///")[2])
    if not database_url.startswith("sqlite") or not file.is_file():
        return False
    newest = max(script.name for script in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    with closing(sqlite3.connect(file)) as connection:
        try:
            versions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.OperationalError:  # no such table: a database that was never migrated
            return False
    return [version for (version,) in versions] == [newest.partition("_")[0]]


def _run(database_url: str, action: "Callable[[Config], object]") -> None:
    from alembic.config import Config  # noqa: PLC0415 - imported when there is something to do
    from sqlalchemy import create_engine  # noqa: PLC0415 - as above
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    if (file := make_url(database_url).database) and database_url.startswith("sqlite"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)

    engine = create_engine(database_url.replace("+aiosqlite", ""))  # psycopg serves both kinds of engine
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            action(config)
    finally:
        engine.dispose()


def main() -> None:
    """Read the command line and migrate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new", metavar="TEXT", help="write the next migration instead")
    arguments = parser.parse_args()
    url = load_settings(ServiceSettings).database_url
    if arguments.new:
        from alembic import command  # noqa: PLC0415 - as above

        number = f"{1 + len(list((MIGRATIONS / 'versions').glob('[0-9]*.py'))):04}"
        _run(url, lambda config: command.revision(config, arguments.new, autogenerate=True, rev_id=number))
    else:
        migrate(url)
        if not url.startswith("sqlite"):
            from tunesmith_shared.durable import create_schemas  # noqa: PLC0415 - importing DBOS takes a second

            create_schemas(url)


if __name__ == "__main__":
    main()
