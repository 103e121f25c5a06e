"""What the tests of outbound connections share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.outbound.client import Resolver
from tests.unit.app.outbound.canary import Canary

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def canary() -> Iterator[Canary]:
    """A canary, shut after the test."""
    bird = Canary()
    yield bird
    bird.close()


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    """The system's own resolver."""
    system = Resolver(threads=2)
    yield system
    system.close()
