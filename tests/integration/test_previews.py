"""Previews from a real worker through Redis and the API to the SDK."""

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

REQUEST: dict[str, Any] = {
    "prompt": "a red circle on a blue background", "width": 256, "height": 128,
    "num_inference_steps": 40, "seed": 7, "cache": False,
}  # fmt: skip


@pytest.fixture
def client(
    farm: FarmDatabase, database_url: str, redis_server: Redis, tmp_path: Path
) -> Iterator[Client]:
    """A farm with the shipped model: API, dispatcher and one worker."""
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
                Client(settings.public_url, api_key=key, timeout_s=PATIENCE_S) as sdk,
            ):
                yield sdk
        finally:
            plant.end()


def test_a_watched_job_sends_previews(client: Client, redis_server: Redis) -> None:
    """Events contain previews of the final picture; the subscription ends with the watching."""
    job = client.submit(**REQUEST)
    progress = [event for event in job.events(PATIENCE_S) if isinstance(event, ProgressEvent)]
    shown = [event.preview for event in progress if event.preview is not None]
    assert len(shown) >= 2
    final = np.asarray(job.images[0].pil().convert("RGB"), dtype=float)
    last = np.asarray(shown[-1].pil().convert("RGB"), dtype=float)
    expected = final.reshape(16, 8, 32, 8, 3).mean(axis=(1, 3))
    assert last.shape == expected.shape
    assert np.corrcoef(last.ravel(), expected.ravel())[0, 1] > 0.6
    broker = connect(redis_server.url)
    until(lambda: broker.pubsub_numsub(preview_channel(job.id))[0][1] == 0)


class Held(redis.asyncio.Redis):
    """A client whose connection closes only when `go` is set."""

    closing: asyncio.Event
    go: asyncio.Event

    async def aclose(self, *arguments: Any) -> None:
        """Set `closing`, and wait for `go`."""
        self.closing.set()
        await self.go.wait()
        await super().aclose(*arguments)


def test_a_client_that_comes_while_the_last_one_leaves_gets_previews(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is first watched while the connection closes has previews too."""
    broker = connect(redis_server.url)

    def subscribed(job_id: str) -> bool:
        return bool(broker.pubsub_numsub(preview_channel(job_id))[0][1])

    async def watch_in_turn() -> str | None:
        Held.closing, Held.go, changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        relay = previews.Previews(redis_server.url)
        running = asyncio.create_task(relay.run())
        with relay.watch("first", asyncio.Event()):
            await asyncio.to_thread(until, lambda: subscribed("first"))
        await Held.closing.wait()
        with relay.watch("second", changed) as latest:
            Held.go.set()
            await asyncio.to_thread(until, lambda: subscribed("second"))
            broker.publish(preview_channel("second"), "data:,x")
            await changed.wait()
            running.cancel()
            return latest.take()

    monkeypatch.setattr(previews, "connect_async", Held.from_url)
    assert asyncio.run(watch_in_turn()) == "data:,x"
