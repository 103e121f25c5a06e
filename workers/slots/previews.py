"""Previews of the jobs that somebody watches, published on the broker at most twice a second.

A thread of its own: a broker that is away or slow holds up no lease and no job.
"""

from __future__ import annotations

import base64
from concurrent.futures import TimeoutError as TooLate
from typing import TYPE_CHECKING

import redis
import structlog

from app.broker import connect, preview_channel
from app.jobs.records import attempt_name
from workers.images.encode import CONTENT_TYPES, encode

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from uuid import UUID

    from workers.device.runtime import Runtime
    from workers.engine.model import Preview
    from workers.slots.lease import LeaseRenewer

log = structlog.get_logger("workers.slots.previews")
EVERY_S = 0.5
PATIENCE_S = 5.0
FORMAT, QUALITY = "webp", 75


class Previewer:
    """Asks the device for previews of watched jobs, and publishes those that are new."""

    def __init__(self, runtime: Runtime, renewer: LeaseRenewer, broker_url: str) -> None:
        self._runtime = runtime
        self._keeper = renewer
        self._client = connect(broker_url)
        self._told: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Look twice a second until told to stop."""
        while not stop.wait(EVERY_S):
            try:
                self.round()
            except redis.RedisError as error:
                log.debug("no previews", cause=str(error))
            except TooLate:
                continue  # a step takes longer than that; there will be another look

    def round(self) -> None:
        """Publish a preview of each held job that somebody watches and that moved on."""
        held = {attempt_name(*attempt): attempt[0] for attempt in self._keeper.attempts}
        watched = self._watched(held)
        self._told = {name: step for name, step in self._told.items() if name in watched}
        moved = [n for n in watched if self._runtime.progress_of(n) != self._told.get(n, 0)]
        if not moved:
            return
        for name, preview in self._seen(moved).items():
            self._told[name] = preview.step
            self._client.publish(preview_channel(held[name]), data_url(preview))

    def _watched(self, held: Mapping[str, UUID]) -> list[str]:
        if not held:
            return []
        channels = [preview_channel(job_id) for job_id in held.values()]
        counts = dict(self._client.pubsub_numsub(*channels))
        return [
            name for name, job_id in held.items() if counts.get(preview_channel(job_id).encode())
        ]

    def _seen(self, names: list[str]) -> Mapping[str, Preview]:
        try:
            return self._runtime.previews(names).result(PATIENCE_S)
        except TooLate:
            raise
        except Exception as error:  # noqa: BLE001 - a preview is no reason to stop anything
            log.warning("no preview", cause=f"{type(error).__name__}: {error}")
            return {}


def data_url(preview: Preview) -> str:
    """A preview as a small WebP in a URL."""
    data = base64.b64encode(encode(preview.pixels, FORMAT, QUALITY)).decode()
    return f"data:{CONTENT_TYPES[FORMAT]};base64,{data}"
