"""Redis streams in the conformance suite, on a real Redis."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import redis

from app.local.redis import Redis
from renderfarm.queues.redis_stream import LIMIT_BYTES
from tests.contract.queues.harness import Dead

NUMBERS = count()


class RedisHarness:
    """The embedded server, with its log on disk."""

    abilities = frozenset({"exclusive", "knows_lost", "counts", "outage", "durable"})
    short_lease_s = 0.3
    limit_bytes = LIMIT_BYTES

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self._server = Redis(Path(self._folder.name)).start()

    def make(self, *, lease_s: float, max_deliveries: int, ordered: bool) -> str:
        """Return a new stream name; its first user makes the stream."""
        del ordered
        options = f"lease_s={lease_s}&max_deliveries={max_deliveries}"
        return f"{self._server.url}?stream=q{next(NUMBERS)}&{options}"

    def dead(self, url: str) -> list[Dead]:
        """Read the dead-letter stream."""
        (stream,) = parse_qs(urlsplit(url).query)["stream"]
        with redis.Redis.from_url(self._server.url) as client:
            return [
                Dead(
                    fields[b"body"],
                    fields[b"reason"].decode(),
                    json.loads(fields.get(b"attributes", b"{}")),
                )
                for _, fields in client.xrange(f"{{{stream}}}:dead")
            ]

    def missing(self) -> str:
        """No URL: a stream exists as soon as it is named."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill the server after it has written its log to the disk."""
        with redis.Redis.from_url(self._server.url) as client:
            client.config_set("appendfsync", "always")
            client.set("synced", "1")
        assert self._server.pid is not None
        os.kill(self._server.pid, signal.SIGKILL)
        while self._server.pid is not None:  # until it has ended, its port is taken
            time.sleep(0.01)

    def restart(self) -> None:
        """Start the server on its log."""
        self._server.start()

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        self._server.stop()
        self._folder.cleanup()
