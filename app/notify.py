"""Notifications through Postgres: LISTEN on one connection, with slow polling as a fallback.

A notification only says that something may have changed. A process that waits reads the database
anyway, so a lost notification or connection costs a short delay and nothing else. The same
connection carries the advisory lock of the leader election.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.database import CONNECTION, autocommit, libpq_url
from app.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy import Engine

log = structlog.get_logger("app.notify")
SILENT_S = 3.0
"""A leader that is silent for this many seconds loses the lock: its process may be frozen."""
_SILENCE = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %(lock)s
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND state_change < clock_timestamp() - make_interval(secs => %(silent_s)s)
"""
_SEND = text("""
SELECT pg_notify(channel, payload)
FROM unnest(CAST(:channels AS text[]), CAST(:payloads AS text[])) AS notice(channel, payload)
""")


def moved(job_id: UUID, event: str) -> tuple[str, str]:
    """Return the notification that a job has changed its state."""
    return "jobs", f"{job_id} {event}"


class Notices:
    """Sends notifications, each batch as its own statement after the commit.

    Inside the transaction, NOTIFY would hold a lock on the whole database until the commit is on
    disk. All changes of all jobs would then run one after another, each with its own fsync.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = autocommit(engine)

    def send(self, notices: Sequence[tuple[str, str]]) -> None:
        """Send notifications. Processes that miss one find the change at their next poll."""
        if not notices:
            return
        channels, payloads = zip(*notices, strict=True)
        values = {"channels": list(channels), "payloads": list(payloads)}
        try:
            with self._engine.connect() as connection:
                connection.execute(_SEND, values)
        except SQLAlchemyError as error:
            log.warning("notification_failed", notices=len(notices), cause=first_line(error))


class Listener:
    """Waits for a channel in one thread. Connects at first use, and again after a failure.

    With `lock`, the connection also holds an advisory lock of the database: see `leads`.
    """

    def __init__(
        self,
        database_url: str,
        channel: str,
        lock: int | None = None,
        silent_s: float = SILENT_S,
    ) -> None:
        self._silent_s = silent_s
        self._url = libpq_url(database_url)
        self._channel = channel
        self._lock = lock
        self._leads = False
        self._listens = False
        self._connection: psycopg.Connection | None = None

    def wait(self, timeout_s: float, wanted: Callable[[str], bool] | None = None) -> bool:
        """Wait for a notification with a wanted payload, at most `timeout_s`.

        Return whether one came.

        Raises `psycopg.OperationalError` if the database is unavailable; the next call connects
        again.
        """
        try:
            notices = self._listening().notifies(timeout=timeout_s)
            came = any(wanted is None or wanted(notice.payload) for notice in notices)
            notices.close()
        except psycopg.OperationalError:
            self.close()
            raise
        return came

    def leads(self) -> bool:
        """Whether this process is the leader: it holds the lock, and tries to take it if not.

        Call this at least every second. A leader that is silent for `silent_s`, because its process
        is frozen or its machine is lost, loses the lock to the next process that calls this. Raises
        `psycopg.OperationalError` if the database is unavailable, and if the lock was lost.
        """
        try:
            connection = self._connected()
            if self._leads:
                connection.execute(
                    "SELECT 1"
                )  # shows that this process is alive; fails if the lock was lost
                return True
            query = "SELECT pg_try_advisory_lock(%s)"
            row = connection.execute(query, (self._lock,)).fetchone()
            self._leads = bool(row and row[0])
            if not self._leads:
                values = {"lock": self._lock, "silent_s": self._silent_s}
                if connection.execute(_SILENCE, values).fetchall():
                    log.warning("silent_leader_terminated")
        except psycopg.OperationalError:
            self.close()
            raise
        return self._leads

    def close(self) -> None:
        """Close the connection, which releases the lock."""
        self._leads = self._listens = False
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, **CONNECTION)
        return self._connection

    def _listening(self) -> psycopg.Connection:
        """Return the connection, listening.

        A process that only wants to lead does not listen: notifications would pile up.
        """
        connection = self._connected()
        if not self._listens:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            self._listens = True
        return connection
