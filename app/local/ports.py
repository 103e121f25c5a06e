"""TCP ports on the loopback address: find free ones, and name the process that uses one."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from app.local.errors import LocalError, PortTakenError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
LOWEST = 15_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_EPHEMERAL = 32_768
LISTEN = "0A"  # a socket's state in /proc/net/tcp


def free() -> int:
    """Return a free port below the range that the system gives to outgoing connections.

    Any client could take a port of that range while the server restarts. A client that retries
    against such a port can even connect to itself, and then holds it.
    """
    highest = _first_ephemeral() - 1
    for _ in range(1000):
        port = random.randint(min(LOWEST, highest - 1000), highest)  # noqa: S311 - not a secret
        if is_free(port):
            return port
    raise LocalError("no free port was found in 1000 tries")


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # Like a server: connections in TIME_WAIT do not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def claim(port: int, *, option: str) -> int:
    """Return the port if it is free, or a free one for 0.

    The error names the process that uses it.
    """
    if port == 0:
        return free()
    if not is_free(port):
        raise PortTakenError(
            f"port {port} is taken{holder(port)}; choose another with {option}, or 0 for a free one"
        )
    return port


def holder(port: int) -> str:
    """Return ` by NAME (pid N)` of the process on the port; empty if it is not visible."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").glob("[0-9]*"):
        if sockets and any(link in sockets for link in _open_files(process)):
            try:
                name = (process / "comm").read_text(encoding="utf-8").strip()
            except OSError:
                return ""
            return f" by {name} (pid {process.name})"
    return ""


def _first_ephemeral() -> int:
    """Return the first port of the range for outgoing connections."""
    try:
        return int(EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return USUAL_EPHEMERAL


def _listening(port: int) -> Iterator[str]:
    """Yield the inodes of sockets that listen on the port (fields 1, 3, 9 of the table)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _open_files(process: Path) -> Iterator[str]:
    """Yield the open files of a process; nothing if they are not visible."""
    try:
        for link in (process / "fd").iterdir():
            yield str(link.readlink())
    except OSError:
        return
