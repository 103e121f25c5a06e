"""The embedded Redis, with real servers."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest
import redis

from app.local.errors import StartError
from app.local.redis import Redis


def client(server: Redis) -> redis.Redis:
    """Return a client of the server."""
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_data_outlive_a_restart(tmp_path: Path) -> None:
    """Keys that were written before a clean stop exist after the next start."""
    folder = tmp_path / "a folder"
    with Redis(folder) as server:
        client(server).set("seen", "7")
    with Redis(folder) as server:
        assert client(server).get("seen") == "7"


def test_starts_again_after_kill_9(tmp_path: Path) -> None:
    """A killed server starts again from its log, with everything that it had synced."""
    with Redis(tmp_path) as server:
        client(server).set("seen", "7")
        client(server).bgrewriteaof()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.start()
        assert client(server).get("seen") == "7"


def test_only_the_password_opens_it(tmp_path: Path) -> None:
    """A wrong password is refused; the right one is not in argv, nor readable by others."""
    with Redis(tmp_path) as server:
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(server.url.replace(server.password, "wrong")).ping()
        assert server.password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
        for name in ("secrets.json", "redis.conf"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_taken_port_is_the_reason(tmp_path: Path) -> None:
    """The start of a server whose port is taken fails with the reason."""
    with Redis(tmp_path / "one") as server:
        other = Redis(tmp_path / "two", port=server.port)
        with pytest.raises(StartError, match="Failed listening on port"):
            other.start()
