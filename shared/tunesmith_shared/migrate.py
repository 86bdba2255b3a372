"""Bring the database to the newest schema: `python -m tunesmith_shared.migrate`.

Runs before the services start, never inside one. With `--new "what changes"` it writes the next migration from the
difference between the tables and an up-to-date database.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from tunesmith_shared.settings import ServiceSettings, load_settings

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(database_url: str) -> None:
    """Upgrade the database at `database_url` to the newest schema; does nothing when it is there already."""
    _run(database_url, lambda config: command.upgrade(config, "head"))


def _run(database_url: str, action: Callable[[Config], object]) -> None:
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
        number = f"{1 + len(list((MIGRATIONS / 'versions').glob('[0-9]*.py'))):04}"
        _run(url, lambda config: command.revision(config, arguments.new, autogenerate=True, rev_id=number))
    else:
        migrate(url)


if __name__ == "__main__":
    main()
