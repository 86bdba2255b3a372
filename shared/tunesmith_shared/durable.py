"""Durable jobs: how DBOS is set up in every service that runs workflows.

What DBOS would do by itself and we do not want: pickle its values (JSON here), call every process "local" (a stable
executor id here, so that two services never recover each other's workflows), derive the application version from the
source (a pinned one here, so that jobs go on after an update), and try a crashing workflow 100 times, clean restarts
counted (three times the same step here, and clean restarts are none: `interruptions.py`).
"""

import logging
import sqlite3
from contextlib import closing
from typing import Final, TypedDict

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, run_dbos_database_migrations
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from tunesmith_shared.interruptions import MAX_RECOVERY_ATTEMPTS, Interruptions
from tunesmith_shared.settings import ServiceSettings

APPLICATION_VERSION = "1"
"""Raised only when a workflow's steps change so that running jobs cannot go on with the new code."""


class WorkflowOptions(TypedDict):
    """The keyword arguments that every `@DBOS.workflow` here takes."""

    max_recovery_attempts: int


WORKFLOW: Final[WorkflowOptions] = {"max_recovery_attempts": MAX_RECOVERY_ATTEMPTS}

SERVICES: Final = ("rag", "worker")
"""The services that run workflows, by the names that they launch with."""


def create_schemas(database_url: str) -> None:
    """Bring the workflow tables of every service to their newest schema, in the PostgreSQL database at `database_url`.

    Before any service starts: those that start together would wait for each other's turn at this. On SQLite every
    service has a file of its own, which it makes at its start.
    """
    url = make_url(database_url)
    for name in SERVICES:
        run_dbos_database_migrations(_plain(url), schema=_schema(name))


def launch(settings: ServiceSettings, name: str) -> None:
    """Start DBOS for the service `name`: recover its interrupted workflows and take work from its queues.

    Workflows, steps and queues must be declared (their modules imported) before. The system database is
    `<data_dir>/<name>-dbos.sqlite`, or the schema `dbos_<name>` of the PostgreSQL database.
    """
    logging.getLogger("dbos").setLevel(logging.WARNING)
    system = _system_database(settings, name)
    config: DBOSConfig = {
        "name": f"tunesmith-{name}",
        "application_version": APPLICATION_VERSION,
        "executor_id": _executor_id(settings, name),
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "WARNING",
        **system,  # type: ignore[typeddict-item]
    }
    _interruptions(settings, name).count()
    DBOS(config=config)
    DBOS.launch()


def shut_down(settings: ServiceSettings, name: str) -> None:
    """Stop taking work and close the system database; interrupted workflows go on at the next launch, uncounted."""
    try:
        _interruptions(settings, name).announce()
    except SQLAlchemyError:  # the database is away; the restart counts as a crash then
        logging.getLogger("tunesmith.durable").warning("could not announce the end of %s", name, exc_info=True)
    finally:
        DBOS.destroy()


def _executor_id(settings: ServiceSettings, name: str) -> str:
    return f"{name}-{settings.instance}"


def _interruptions(settings: ServiceSettings, name: str) -> Interruptions:
    system = _system_database(settings, name)
    return Interruptions(
        settings.database_url,
        system["system_database_url"],
        system.get("dbos_system_schema"),
        _executor_id(settings, name),
    )


def _system_database(settings: ServiceSettings, name: str) -> dict[str, str]:
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        return {"system_database_url": _plain(url), "dbos_system_schema": _schema(name)}
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    file = settings.data_dir / f"{name}-dbos.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # kept in the file: readers never wait for a writer
    return {"system_database_url": f"sqlite:///{file}"}


def _plain(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _schema(name: str) -> str:
    return f"dbos_{name}"
