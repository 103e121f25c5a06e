"""Postgres notifications as a wake-up: LISTEN on one connection, with a slow poll behind it.

A notification only says that something may have changed. Whoever waits looks at the records, so a
lost connection costs a moment's delay and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from app.database import libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener:
    """Waits for a channel in one thread. Connects when first asked, and again after a failure."""

    def __init__(self, database_url: str, channel: str) -> None:
        self._url = libpq_url(database_url)
        self._channel = channel
        self._connection: psycopg.Connection | None = None

    def wait(self, timeout_s: float, wanted: Callable[[str], bool] | None = None) -> bool:
        """Until a notification (whose payload is wanted), or so many seconds; whether one came.

        Raises `psycopg.OperationalError` while the database is away; the next call connects anew.
        """
        try:
            notices = self._connected().notifies(timeout=timeout_s)
            came = any(wanted is None or wanted(notice.payload) for notice in notices)
            notices.close()
        except psycopg.OperationalError:
            self.close()
            raise
        return came

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        return self._connection
