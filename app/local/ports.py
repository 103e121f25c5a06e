"""TCP ports on the loopback address: find free ones, and say who holds one that is taken."""

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
    """A port that nobody listens on, below those which the system gives to outgoing connections.

    One of the latter could be taken by any client while our server restarts; a client that retries
    against it can even connect to itself, and then holds it.
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
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: see TIME_WAIT
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def claim(port: int, *, option: str) -> int:
    """The port itself when it is free, a free one for 0; else the error names who holds it."""
    if port == 0:
        return free()
    if not is_free(port):
        raise PortTakenError(
            f"port {port} is taken{holder(port)}; choose another with {option}, or 0 for a free one"
        )
    return port


def holder(port: int) -> str:
    """` by NAME (pid N)` for the process that listens on the port, or nothing if it can't be seen."""
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
    """Where the ports for outgoing connections begin."""
    try:
        return int(EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return USUAL_EPHEMERAL


def _listening(port: int) -> Iterator[str]:
    """The inodes of sockets that listen on the port: fields 1, 3 and 9 of the kernel's table."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _open_files(process: Path) -> Iterator[str]:
    """What a process has open; nothing if it is not ours to look at."""
    try:
        for link in (process / "fd").iterdir():
            yield str(link.readlink())
    except OSError:
        return
