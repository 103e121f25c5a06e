"""Previews from a real worker's model, over a real Redis and the API, to the SDK."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import redis.asyncio

from app.api import previews
from app.broker import connect, preview_channel
from app.config.settings import Settings
from app.local import ports
from app.tenants import keys
from renderfarm import Farm as Client
from renderfarm import ProgressEvent
from tests.integration.api_server import SECRET, Server
from tests.integration.dispatching import dispatching
from tests.integration.test_worker import Plant
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.local.redis import Redis
    from tests.integration.records import FarmDatabase

ASKED: dict[str, Any] = {
    "prompt": "a red circle on a blue background", "width": 256, "height": 128,
    "num_inference_steps": 40, "seed": 7, "cache": False,
}  # fmt: skip


@pytest.fixture
def client(
    farm: FarmDatabase, database_url: str, redis_server: Redis, tmp_path: Path
) -> Iterator[Client]:
    """A farm of the model that ships: API, dispatcher and one worker."""
    port = ports.free()
    environment = {
        "RENDERFARM_DATABASE_URL": database_url,
        "RENDERFARM_BROKER_URL": redis_server.url,
        "RENDERFARM_DIR": str(tmp_path),
        "RENDERFARM_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RENDERFARM_PORT": str(port),
        "RENDERFARM_SECRET": SECRET,
        "RENDERFARM_SERVE": "scenes",
    }
    settings = Settings.from_environment(environment)
    plant = Plant(farm.engine, {**os.environ, **environment}, tmp_path)
    key = keys.new_key()
    keys.add_key(farm.engine, farm.tenant, key, "test")
    with dispatching(environment):
        try:
            plant.start("scenes")
            with (
                Server(settings),
                Client(settings.public_url, api_key=key, timeout_s=PATIENCE_S) as made,
            ):
                yield made
        finally:
            plant.end()


def test_who_watches_a_job_sees_its_picture_come(client: Client, redis_server: Redis) -> None:
    """Events carry previews of the picture to be; nobody is subscribed once nobody watches."""
    job = client.submit(**ASKED)
    told = [event for event in job.events(PATIENCE_S) if isinstance(event, ProgressEvent)]
    seen = [event.preview for event in told if event.preview is not None]
    assert len(seen) >= 2
    final = np.asarray(job.images[0].pil().convert("RGB"), dtype=float)
    last = np.asarray(seen[-1].pil().convert("RGB"), dtype=float)
    wanted = final.reshape(16, 8, 32, 8, 3).mean(axis=(1, 3))
    assert last.shape == wanted.shape
    assert np.corrcoef(last.ravel(), wanted.ravel())[0, 1] > 0.6
    broker = connect(redis_server.url)
    until(lambda: broker.pubsub_numsub(preview_channel(job.id))[0][1] == 0)


class Held(redis.asyncio.Redis):
    """A client whose connection is closed only when it is let `go`."""

    closing: asyncio.Event
    go: asyncio.Event

    async def aclose(self, *arguments: Any) -> None:
        """Say that it is about to be closed, and wait."""
        self.closing.set()
        await self.go.wait()
        await super().aclose(*arguments)


def test_who_comes_while_the_last_one_leaves_is_seen(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is watched from when the connection is being closed has its previews, too."""
    broker = connect(redis_server.url)

    def subscribed(job_id: str) -> bool:
        return bool(broker.pubsub_numsub(preview_channel(job_id))[0][1])

    async def watch_in_turn() -> str | None:
        Held.closing, Held.go, changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        passed = previews.Previews(redis_server.url)
        running = asyncio.create_task(passed.run())
        with passed.watch("first", asyncio.Event()):
            await asyncio.to_thread(until, lambda: subscribed("first"))
        await Held.closing.wait()
        with passed.watch("second", changed) as latest:
            Held.go.set()
            await asyncio.to_thread(until, lambda: subscribed("second"))
            broker.publish(preview_channel("second"), "data:,x")
            await changed.wait()
            running.cancel()
            return latest.take()

    monkeypatch.setattr(previews, "connect_async", Held.from_url)
    assert asyncio.run(watch_in_turn()) == "data:,x"
