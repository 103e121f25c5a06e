"""A TCP proxy that can be made to fail the ways networks do, and counts what it did to whom."""

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
    """What the proxy does with connections, those that are open and those to come."""

    PASS = "pass"
    FREEZE = "freeze"
    """Nothing flows until the mode changes; then everything does, late."""
    HALF_OPEN = "half_open"
    """The far end is gone and the near end is not told: what it sends is swallowed for ever."""
    RESET = "reset"
    """Every connection is cut with RST, and so is each new one."""


class Line:
    """One connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.near = near
        self.far: asyncio.StreamWriter | None = None
        self.dead = False


class Proxy:
    """Listens on a port of its own and passes on to `target_port`, as `mode` says."""

    def __init__(self, target_port: int) -> None:
        self.port = ports.free()
        self.hurt: Counter[Mode] = Counter()
        """How many connections each mode has done something to."""
        self._target_port = target_port
        self._mode = Mode.PASS
        self._lines: set[Line] = set()
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
        """What it does now."""
        return self._mode

    def set(self, mode: Mode) -> None:
        """Do this from now on, to what is open too. Safe from any thread."""
        asyncio.run_coroutine_threadsafe(self._set(mode), self._loop).result()

    async def _set(self, mode: Mode) -> None:
        async with self._changed:
            self._mode = mode
            if mode is not Mode.PASS:
                self.hurt[mode] += len(self._lines)
            for line in list(self._lines):
                self._hurt(line)
            self._changed.notify_all()

    def _hurt(self, line: Line) -> None:
        if self._mode is Mode.HALF_OPEN:
            line.dead = True
            if line.far is not None:
                line.far.close()
        elif self._mode is Mode.RESET:
            _reset(line)

    async def _serve(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        line = Line(near)
        self._lines.add(line)
        if self._mode is not Mode.PASS:
            self.hurt[self._mode] += 1
            self._hurt(line)
        try:
            await self._flowing(line)
            far_reader, line.far = await asyncio.open_connection(ports.LOOPBACK, self._target_port)
            back = asyncio.create_task(self._pump(line, far_reader, near))
            await self._pump(line, near_reader, line.far)
            line.far.close()
            await back
        except OSError:
            pass
        finally:
            self._lines.discard(line)
            if not line.dead:
                near.close()

    async def _pump(
        self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass on until the sender ends; a dead line takes everything and passes on nothing."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing(line)
                if not line.dead:
                    writer.write(data)
                    await writer.drain()
        if not line.dead:
            writer.close()

    async def _flowing(self, line: Line) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: line.dead or self._mode is not Mode.FREEZE)


def _reset(line: Line) -> None:
    for writer in (line.near, line.far):
        if writer is not None:
            plug: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()
