"""Previews of running jobs, from the broker: one subscription per process, however many watch.

Workers make previews only of jobs that a client watches; see `workers.slots.previews`. While the
broker is unavailable there are no previews, and nothing else is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING

import redis
import structlog

from app.broker import connect_async, preview_channel
from app.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio.client import PubSub

log = structlog.get_logger("app.api")
LOOK_S = 0.25
RECONNECT_S = 1.0


class Latest:
    """The newest preview of one job that one watcher has not read yet."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self._preview: str | None = None

    def give(self, preview: str) -> None:
        """Store a preview and wake the watcher."""
        self._preview = preview
        self._changed.set()

    def take(self) -> str | None:
        """Return the preview as a data URL, once; None if there is no new one."""
        preview, self._preview = self._preview, None
        return preview


class Previews:
    """Belongs to the API's event loop; `run` is its one task."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._watchers: defaultdict[str, set[Latest]] = defaultdict(set)
        self._watched = asyncio.Event()

    @contextlib.contextmanager
    def watch(self, job_id: str, changed: asyncio.Event) -> Iterator[Latest]:
        """Request previews of the job while the context is open.

        `changed` is set when one arrives.
        """
        channel, latest = preview_channel(job_id), Latest(changed)
        self._watchers[channel].add(latest)
        self._watched.set()
        try:
            yield latest
        finally:
            self._watchers[channel].discard(latest)
            if not self._watchers[channel]:
                del self._watchers[channel]

    async def run(self) -> None:
        """Pass previews on until cancelled. Connects only while a client watches."""
        while True:
            await self._watched.wait()
            self._watched.clear()
            while (
                self._watchers
            ):  # also for watchers that came while the connection was being closed
                try:
                    await self._pass_on()
                except (redis.RedisError, OSError) as error:
                    log.warning("previews_unavailable", cause=first_line(error))
                    await asyncio.sleep(RECONNECT_S)

    async def _pass_on(self) -> None:
        """Subscribe to the watched jobs and pass previews on, until no client watches."""
        client = connect_async(self._url)
        async with client, client.pubsub(ignore_subscribe_messages=True) as subscription:
            while self._watchers:
                await self._follow(subscription)
                message = await subscription.get_message(timeout=LOOK_S)
                if message is not None:
                    for latest in self._watchers.get(message["channel"].decode(), ()):
                        latest.give(message["data"].decode())

    async def _follow(self, subscription: PubSub) -> None:
        """Subscribe to newly watched jobs, and unsubscribe from the others."""
        subscribed = {channel.decode() for channel in subscription.channels}
        if new := self._watchers.keys() - subscribed:
            await subscription.subscribe(*new)
        if old := subscribed - self._watchers.keys():
            await subscription.unsubscribe(*old)
