"""How often a service died in the middle of one and the same step: after three times the workflow is given up.

DBOS counts every time that a workflow is taken up, so one that is under way at four clean restarts of its service, or
at one kill in each of four steps, would be given up too. Here only what may be the workflow's own fault counts: that
the process ended unannounced, and that no step was finished since the last time it did. The count is put where DBOS
keeps its own, before it takes the workflows up again; giving up is still DBOS's.

Several workflows that are under way when their process dies are all counted: nobody can tell which one it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, delete, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from tunesmith_shared.tables import Interruption

MOST_DEATHS = 3
"""How often a process may die in the same step."""

MAX_RECOVERY_ATTEMPTS = MOST_DEATHS
"""DBOS's own limit: it gives up what it takes up for the time after the next one."""

_UNDER_WAY = text(
    "SELECT workflow_uuid, (SELECT count(*) FROM operation_outputs AS done WHERE done.workflow_uuid = "
    "workflow_status.workflow_uuid) FROM workflow_status WHERE status = 'PENDING' AND executor_id = :executor"
)
_CORRECT = text(
    "UPDATE workflow_status SET recovery_attempts = :taken_up WHERE workflow_uuid = :workflow AND status = 'PENDING'"
)


class Interruptions:
    """The unfinished workflows of one executor, counted. Blocks on both databases.

    `system_url` is the database of DBOS, in whose `schema` its tables are (None on SQLite); `url` is the platform's.
    """

    def __init__(self, url: str, system_url: str, schema: str | None, executor: str) -> None:
        self._url = make_url(url.replace("+aiosqlite", ""))
        self._system_url = make_url(system_url)
        self._schema = schema
        self._executor = executor

    def count(self) -> None:
        """At the start, before DBOS recovers: count those that the last process left without announcing its end."""
        with self._databases() as (system, session):
            under_way = _under_way(system, self._executor)
            known = {row.workflow_id: row for row in self._rows(session)}
            for workflow_id, steps_done in under_way.items():
                row = known.get(workflow_id) or Interruption(
                    workflow_id=workflow_id, executor=self._executor, steps_done=steps_done, deaths=0, announced=False
                )
                earlier = row.deaths if row.steps_done == steps_done else 0
                row.deaths, row.steps_done = earlier + (0 if row.announced else 1), steps_done
                row.announced = False
                session.add(row)
                system.execute(_CORRECT, {"taken_up": row.deaths + 1, "workflow": workflow_id})
            over = set(known) - set(under_way)
            session.execute(delete(Interruption).where(Interruption.workflow_id.in_(over)))

    def announce(self) -> None:
        """At a clean end, before DBOS stops: what is under way now is interrupted through no fault of its own."""
        with self._databases() as (system, session):
            known = {row.workflow_id: row for row in self._rows(session)}
            for workflow_id, steps_done in _under_way(system, self._executor).items():
                row = known.get(workflow_id) or Interruption(
                    workflow_id=workflow_id, executor=self._executor, steps_done=steps_done, deaths=0
                )
                row.announced = True
                session.add(row)

    def _rows(self, session: Session) -> list[Interruption]:
        return list(session.scalars(select(Interruption).where(Interruption.executor == self._executor)))

    @contextmanager
    def _databases(self) -> Iterator[tuple[Connection, Session]]:
        system, ours = self._system_engine(), create_engine(self._url)
        try:
            with system.begin() as connection, Session(ours) as session, session.begin():
                yield connection, session
        finally:
            system.dispose()
            ours.dispose()

    def _system_engine(self) -> Engine:
        if self._schema is None:
            return create_engine(self._system_url)
        url: URL = self._system_url.set(drivername="postgresql+psycopg")
        return create_engine(url, connect_args={"options": f"-csearch_path={self._schema}"})


def _under_way(system: Connection, executor: str) -> dict[str, int]:
    """Return the number of finished steps of each workflow that `executor` had taken up and not finished."""
    if not inspect(system).has_table("workflow_status"):  # the very first start
        return {}
    found = system.execute(_UNDER_WAY, {"executor": executor})
    return {str(workflow_id): int(steps_done) for workflow_id, steps_done in found}
