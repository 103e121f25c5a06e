"""A TCP proxy that fails as networks do (fault injection), and counts the connections it hurt."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from enum import StrEnum
from typing import Self

from app.local import ports

CHUNK_BYTES = 65_536
NO_LINGER = struct.pack("ii", 1, 0)  # closing sends RST instead of FIN


class Mode(StrEnum):
    """What the proxy does with open and with new connections."""

    PASS = "pass"
    FREEZE = "freeze"
    """No data flows until the mode changes; then all of it flows, late."""
    HALF_OPEN = "half_open"
    """The far end is closed and the near end does not learn it: its data is discarded."""
    RESET = "reset"
    """Every open and every new connection is closed with RST."""


class Link:
    """One connection through the proxy: `near` to the client, `far` to the server."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.near = near
        self.far: asyncio.StreamWriter | None = None
        self.dead = False


class Proxy:
    """Listens on a free port and forwards to `target_port`, according to `mode`."""

    def __init__(self, target_port: int) -> None:
        self.port = ports.free()
        self.hurt: Counter[Mode] = Counter()
        """The number of connections that each mode has affected."""
        self._target_port = target_port
        self._mode = Mode.PASS
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Condition()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        serving = asyncio.start_server(self._serve, ports.LOOPBACK, self.port)
        asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def mode(self) -> Mode:
        """The current mode."""
        return self._mode

    def set(self, mode: Mode) -> None:
        """Change the mode, also for open connections. Safe from any thread."""
        asyncio.run_coroutine_threadsafe(self._set(mode), self._loop).result()

    async def _set(self, mode: Mode) -> None:
        async with self._changed:
            self._mode = mode
            if mode is not Mode.PASS:
                self.hurt[mode] += len(self._links)
            for link in list(self._links):
                self._apply(link)
            self._changed.notify_all()

    def _apply(self, link: Link) -> None:
        if self._mode is Mode.HALF_OPEN:
            link.dead = True
            if link.far is not None:
                link.far.close()
        elif self._mode is Mode.RESET:
            _reset(link)

    async def _serve(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        link = Link(near)
        self._links.add(link)
        if self._mode is not Mode.PASS:
            self.hurt[self._mode] += 1
            self._apply(link)
        try:
            await self._flowing(link)
            far_reader, link.far = await asyncio.open_connection(ports.LOOPBACK, self._target_port)
            back = asyncio.create_task(self._pump(link, far_reader, near))
            await self._pump(link, near_reader, link.far)
            link.far.close()
            await back
        except OSError:
            pass
        finally:
            self._links.discard(link)
            if not link.dead:
                near.close()

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward data until the sender closes; a dead link discards it."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing(link)
                if not link.dead:
                    writer.write(data)
                    await writer.drain()
        if not link.dead:
            writer.close()

    async def _flowing(self, link: Link) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: link.dead or self._mode is not Mode.FREEZE)


def _reset(link: Link) -> None:
    for writer in (link.near, link.far):
        if writer is not None:
            connection: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()
