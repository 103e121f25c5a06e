"""A listener that tells whether anybody came."""

from __future__ import annotations

import socket


class Canary:
    """A listener on loopback that nothing may reach."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    @property
    def untouched(self) -> bool:
        """Whether nobody has connected."""
        try:
            self._socket.accept()
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
