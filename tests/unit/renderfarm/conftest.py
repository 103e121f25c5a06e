"""A clock that only sleeping moves, and farms that live by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from renderfarm import Farm
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx


class Clock:
    """Time for tests: `sleep` passes it at once and remembers."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Seconds, as `time.monotonic` gives them."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """Time that stands still."""
    return Clock()


@pytest.fixture
def connect(clock: Clock) -> Callable[..., Farm]:
    """Make a Farm on a transport, by the test's clock and without jitter."""

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
    """Give a farm without trouble."""
    return FakeFarm()


@pytest.fixture
def farm(connect: Callable[..., Farm], fake: FakeFarm) -> Farm:
    """Give a client of `fake`."""
    made: Farm = connect(fake)
    return made
