"""Previews of jobs that a client watches: publish/subscribe on the broker, at most twice a second.

They run in their own thread, so a slow or unavailable broker delays no lease and no job.
"""

from __future__ import annotations

import base64
from concurrent.futures import TimeoutError as PreviewTimeout
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
INTERVAL_S = 0.5
TIMEOUT_S = 5.0
FORMAT, QUALITY = "webp", 75


class Previewer:
    """Requests previews of watched jobs from the device, and publishes the new ones."""

    def __init__(self, runtime: Runtime, renewer: LeaseRenewer, broker_url: str) -> None:
        self._runtime = runtime
        self._renewer = renewer
        self._client = connect(broker_url)
        self._published_steps: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Run a round every `INTERVAL_S` until `stop` is set."""
        while not stop.wait(INTERVAL_S):
            try:
                self.round()
            except redis.RedisError as error:
                log.debug("previews_unavailable", cause=str(error))
            except PreviewTimeout:
                continue  # a step takes longer than `TIMEOUT_S`; the next round tries again

    def round(self) -> None:
        """Publish a preview of each watched job that made a step since its last preview."""
        job_ids = {attempt_name(*attempt): attempt[0] for attempt in self._renewer.attempts}
        watched = self._watched(job_ids)
        published = {n: step for n, step in self._published_steps.items() if n in watched}
        self._published_steps = published
        moved = [n for n in watched if self._runtime.progress_of(n) != published.get(n, 0)]
        if not moved:
            return
        for name, preview in self._previews(moved).items():
            published[name] = preview.step
            self._client.publish(preview_channel(job_ids[name]), data_url(preview))

    def _watched(self, job_ids: Mapping[str, UUID]) -> list[str]:
        if not job_ids:
            return []
        channels = [preview_channel(job_id) for job_id in job_ids.values()]
        counts = dict(self._client.pubsub_numsub(*channels))
        return [
            name for name, job_id in job_ids.items() if counts.get(preview_channel(job_id).encode())
        ]

    def _previews(self, names: list[str]) -> Mapping[str, Preview]:
        try:
            return self._runtime.previews(names).result(TIMEOUT_S)
        except PreviewTimeout:
            raise
        except Exception as error:  # noqa: BLE001 - a preview that fails must not stop this thread
            log.warning("preview_failed", cause=f"{type(error).__name__}: {error}")
            return {}


def data_url(preview: Preview) -> str:
    """Return a preview as a small WebP in a data URL."""
    data = base64.b64encode(encode(preview.pixels, FORMAT, QUALITY)).decode()
    return f"data:{CONTENT_TYPES[FORMAT]};base64,{data}"
