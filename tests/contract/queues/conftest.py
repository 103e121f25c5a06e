"""Fixtures: each service once per run, and the queues of each test on it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from tests.contract.queues.harness import Harness, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

HARNESSES = {
    "memory": ("on_memory", "MemoryHarness"),
    "redis": ("on_redis", "RedisHarness"),
    "sqs": ("on_sqs", "SqsHarness"),
    "pubsub": ("on_pubsub", "PubSubHarness"),
    "servicebus": ("on_servicebus", "ServiceBusHarness"),
}


@pytest.fixture(params=HARNESSES, scope="session")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """One service, which is started when the first test needs it."""
    module, name = HARNESSES[request.param]
    built: Harness = getattr(import_module(f"tests.contract.queues.{module}"), name)()
    yield built
    built.stop()


@pytest.fixture
def place(harness: Harness) -> Iterator[Place]:
    """The queues of one test."""
    made = Place(harness)
    yield made
    made.close()
