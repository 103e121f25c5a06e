"""The embedded Postgres, with real servers."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from app.local import identity, ports
from app.local.errors import InUseError, LocalError, StartError
from app.local.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    """A server that is stopped at the end of the test."""
    postgres = Postgres(tmp_path / "a folder")
    yield postgres
    postgres.stop()


def ask(postgres: Postgres, statement: str) -> object:
    """Return the first value of a statement's result, and commit."""
    with psycopg.connect(postgres.url) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]


def remember(postgres: Postgres) -> None:
    """Commit a row that later starts must find."""
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE seen AS SELECT 7 AS number")


def test_data_outlive_a_restart(server: Postgres) -> None:
    """Rows that were committed before a clean stop exist after the next start."""
    server.start()
    remember(server)
    server.stop()
    again = Postgres(server.directory)
    with again:
        assert ask(again, "SELECT number FROM seen") == 7


def test_recovers_after_kill_9(server: Postgres) -> None:
    """A killed server loses no commit, and its stale pid file does not stop the next start."""
    server.start()
    remember(server)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.start()
    assert ask(server, "SELECT number FROM seen") == 7


def test_pid_file_that_names_a_stranger_is_stale(server: Postgres) -> None:
    """A pid file whose pid belongs to another living process, as after a reboot, is removed."""
    server.start()
    assert server.pid is not None
    file = server.data / "postmaster.pid"
    stale = file.read_text(encoding="utf-8").replace(str(server.pid), str(os.getpid()), 1)
    server.stop()
    file.write_text(stale, encoding="utf-8")
    server.start()
    assert ask(server, "SELECT 1") == 1


def test_living_server_keeps_its_data(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second server on the same data is refused, and the first one continues."""
    monkeypatch.setattr("app.local.postgres.SHUTDOWN_TIMEOUT_S", 0.0)
    server.start()
    with pytest.raises(InUseError, match=f"pid {server.pid}"):
        Postgres(server.directory).start()
    assert ask(server, "SELECT 1") == 1


def test_only_the_password_opens_it(server: Postgres) -> None:
    """A client needs the password, and only the owner can read the file that has it."""
    server.start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url.replace(server.password, "wrong"))
    assert stat.S_IMODE((server.directory / "secrets.json").stat().st_mode) == 0o600
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert server.password.encode() not in arguments


def test_keeps_what_it_promises(server: Postgres) -> None:
    """Commits reach the disk, pages carry checksums, and only this machine can connect."""
    server.start()
    assert ask(server, "SHOW fsync") == "on"
    assert ask(server, "SHOW synchronous_commit") == "on"
    assert ask(server, "SHOW data_checksums") == "on"
    assert ask(server, "SHOW listen_addresses") == ports.LOOPBACK


def test_taken_port_is_the_reason(server: Postgres) -> None:
    """The start of a server whose port is taken fails with the reason."""
    server.start()
    other = Postgres(server.directory.parent / "other", port=server.port)
    with pytest.raises(StartError, match="could not create any TCP/IP sockets"):
        other.start()


def test_half_made_data_are_made_again(server: Postgres) -> None:
    """The second start works after a first start that was interrupted."""
    (server.directory / "fresh" / "base").mkdir(parents=True)
    server.start()
    assert ask(server, "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_runs_as_nobody_where_namespaces_are_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root without user namespaces runs the server as `nobody`, also at later starts."""
    with tempfile.TemporaryDirectory() as name:  # only root can enter pytest's own folders
        farm = Path(name)
        farm.chmod(0o711)
        with monkeypatch.context() as system:
            system.setattr(identity, "NAMESPACE", ("false",))
            with Postgres(farm) as postgres:
                assert Path(f"/proc/{postgres.pid}").stat().st_uid == identity.NOBODY_UID
                remember(postgres)
        with Postgres(farm) as postgres:
            assert ask(postgres, "SELECT number FROM seen") == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_unreadable_programs_are_copied_for_nobody(tmp_path: Path) -> None:
    """Programs in a folder that `nobody` cannot enter are copied next to the data, once."""
    programs = tmp_path / "home" / "pginstall"
    (programs / "bin").mkdir(parents=True)
    (programs / "bin" / "postgres").write_text("#!/bin/sh\n", encoding="utf-8")
    copy = identity.readable_copy(programs, tmp_path)
    assert copy == tmp_path / "pginstall"
    assert (copy / "bin" / "postgres").exists()
    assert identity.readable_copy(programs, tmp_path) == copy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_data_of_another_user_are_left_alone(tmp_path: Path) -> None:
    """Root refuses data that belong to another user."""
    postgres = Postgres(tmp_path)
    postgres.data.mkdir()
    os.chown(postgres.data, 1234, 1234)
    with pytest.raises(LocalError, match="belongs to user 1234"):
        postgres.start()
