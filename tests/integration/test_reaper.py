"""The reaper: which jobs it takes back, and when it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.config.settings import Settings
from app.dispatch.reaper import GAP_S, Reaper

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.integration.records import FarmDatabase

RENEW_S = 5.0
SETTINGS = Settings.from_environment(
    {
        "RENDERFARM_DATABASE_URL": "postgresql://unused/farm",
        "RENDERFARM_BROKER_URL": "redis://unused/0",
        "RENDERFARM_RENEW_S": str(RENEW_S),
    }
)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def reaper(farm: FarmDatabase, engine: Engine, clock: Clock) -> Reaper:
    """A reaper whose database has been available for a while."""
    reaper = Reaper(store=farm.store, engine=engine, settings=SETTINGS, clock=clock)
    reaper.round()
    reaper._available_since = clock.now_s - 1000.0
    return reaper


def test_lost_and_late_jobs_are_moved(farm: FarmDatabase, reaper: Reaper) -> None:
    """A job whose lease ran out is queued again; a job whose deadline has passed expires."""
    lost, late = farm.claimed().id, farm.queued()
    farm.lose(lost)
    farm.outdate(late)
    assert reaper.round() == 2
    assert (farm.state(lost)[0], farm.state(late)[0]) == ("queued", "expired")
    assert reaper.round() == 0


def test_after_a_gap_holders_may_renew_first(
    farm: FarmDatabase, reaper: Reaper, clock: Clock
) -> None:
    """Leases that ran out while the database was unavailable are no sign of a lost worker."""
    claim = farm.claimed()
    farm.lose(claim.id)
    clock.now_s += GAP_S + 1
    assert reaper.round() == 0
    for _ in range(int(2 * RENEW_S)):
        clock.now_s += 0.9
        reaper.round()
    assert farm.state(claim.id)[0] == "running"
    clock.now_s += 1.1
    assert reaper.round() == 1
    assert farm.events(claim.id) == ["queued", "running", "rescued"]


def test_a_server_that_has_just_started_was_unavailable(
    farm: FarmDatabase, engine: Engine, clock: Clock
) -> None:
    """A reaper that starts together with the database also gives the holders time."""
    claim = farm.claimed()
    farm.lose(claim.id)
    reaper = Reaper(store=farm.store, engine=engine, settings=SETTINGS, clock=clock)
    reaper._database_settled()
    reaper._available_since = clock.now_s - 0.1
    assert reaper.round() == 0


def test_late_jobs_expire_in_spite_of_a_gap(
    farm: FarmDatabase, reaper: Reaper, clock: Clock
) -> None:
    """No renewal can move a deadline, so expiry does not wait."""
    late = farm.queued()
    farm.outdate(late)
    clock.now_s += GAP_S + 1
    assert reaper.round() == 1
    assert farm.state(late)[0] == "expired"
