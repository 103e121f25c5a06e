"""Postgres notifications as a wake-up: LISTEN on one connection, with a slow poll behind it.

A notification only says that something may have changed. Whoever waits looks at the records, so a
lost notification or connection costs a moment's delay and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.database import CONNECTION, autocommit, libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy import Engine

log = structlog.get_logger("app.notices")
SILENT_S = 3.0
"""A leader that has not said for so long that it leads is put down: it may be frozen for ever."""
_SILENCE = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %(lock)s
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND state_change < clock_timestamp() - make_interval(secs => %(silent_s)s)
"""
_SEND = text("""
SELECT pg_notify(channel, payload)
FROM unnest(CAST(:channels AS text[]), CAST(:payloads AS text[])) AS told(channel, payload)
""")


def moved(job_id: UUID, event: str) -> tuple[str, str]:
    """The notice that a job has moved."""
    return "jobs", f"{job_id} {event}"


class Notices:
    """Sends notifications, each batch as a statement of its own after the commit it tells of.

    Within the transaction NOTIFY would take a lock on the whole database and keep it until the
    commit is on disk: all moves of all jobs would go one after another, each with its own fsync.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = autocommit(engine)

    def send(self, notices: Sequence[tuple[str, str]]) -> None:
        """Tell. What can't be told is found by those who wait, at their next look."""
        if not notices:
            return
        channels, payloads = zip(*notices, strict=True)
        values = {"channels": list(channels), "payloads": list(payloads)}
        try:
            with self._engine.connect() as connection:
                connection.execute(_SEND, values)
        except SQLAlchemyError as error:
            log.warning("not told", notices=len(notices), cause=str(error).partition("\n")[0])


class Listener:
    """Waits for a channel in one thread. Connects when first asked, and again after a failure.

    With `lock`, an advisory lock of the database goes with the connection: see `leads`.
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
        """Until a notification (whose payload is wanted), or so many seconds; whether one came.

        Raises `psycopg.OperationalError` while the database is away; the next call connects anew.
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
        """Whether this process holds the lock; it tries to when it does not.

        Call at least every second: a leader that is silent for `silent_s`, because its process is
        frozen or its machine is gone, loses the lock to whoever asks next. Raises
        `psycopg.OperationalError` while the database is away, and when the lock was lost.
        """
        try:
            connection = self._connected()
            if self._leads:
                connection.execute(
                    "SELECT 1"
                )  # says that we live, and learns whether we lead still
                return True
            query = "SELECT pg_try_advisory_lock(%s)"
            row = connection.execute(query, (self._lock,)).fetchone()
            self._leads = bool(row and row[0])
            if not self._leads:
                values = {"lock": self._lock, "silent_s": self._silent_s}
                if connection.execute(_SILENCE, values).fetchall():
                    log.warning("put a silent leader down")
        except psycopg.OperationalError:
            self.close()
            raise
        return self._leads

    def close(self) -> None:
        """Let the connection go, and the lock with it."""
        self._leads = self._listens = False
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, **CONNECTION)
        return self._connection

    def _listening(self) -> psycopg.Connection:
        """The connection, which listens from now on: who only wants to lead would pile notices up."""
        connection = self._connected()
        if not self._listens:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            self._listens = True
        return connection
