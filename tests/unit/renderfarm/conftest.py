"""A clock that only `sleep` moves, and farms that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from renderfarm import Farm
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx


class Clock:
    """A clock for tests: `sleep` moves it at once and records the pause."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Return the time in seconds, like `time.monotonic`."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move the clock and record the pause."""
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """A clock that has not been moved yet."""
    return Clock()


@pytest.fixture
def connect(clock: Clock) -> Callable[..., Farm]:
    """Make a Farm on a transport, with the test's clock and without jitter."""

    def make(transport: httpx.BaseTransport, **settings: float) -> Farm:
        return Farm(
            transport=transport,
            clock=clock,
            sleep=clock.sleep,
            jitter=lambda: 1.0,
            **settings,  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def fake() -> FakeFarm:
    """A fake farm that answers every call."""
    return FakeFarm()


@pytest.fixture
def farm(connect: Callable[..., Farm], fake: FakeFarm) -> Farm:
    """A client of `fake`."""
    made: Farm = connect(fake)
    return made
