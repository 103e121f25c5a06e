"""The reaper: what it takes back, and when it waits with that."""

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
    """Time as the test sets it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def reaper(farm: FarmDatabase, engine: Engine, clock: Clock) -> Reaper:
    """A reaper of a farm whose database has been up for a while."""
    made = Reaper(store=farm.store, engine=engine, settings=SETTINGS, clock=clock)
    made.round()
    made._available_since = clock.now_s - 1000.0
    return made


def test_lost_and_late_jobs_are_moved(farm: FarmDatabase, reaper: Reaper) -> None:
    """A job whose lease ran out waits again; one whose deadline has passed has expired."""
    lost, late = farm.claimed().id, farm.queued()
    farm.lose(lost)
    farm.outdate(late)
    assert reaper.round() == 2
    assert (farm.state(lost)[0], farm.state(late)[0]) == ("queued", "expired")
    assert reaper.round() == 0


def test_after_a_gap_holders_may_renew_first(
    farm: FarmDatabase, reaper: Reaper, clock: Clock
) -> None:
    """Leases that ran out while the database was unavailable do not mean a lost worker."""
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


def test_a_server_that_has_just_started_was_out_of_reach(
    farm: FarmDatabase, engine: Engine, clock: Clock
) -> None:
    """A reaper that starts together with the database gives the holders time too."""
    claim = farm.claimed()
    farm.lose(claim.id)
    reaper = Reaper(store=farm.store, engine=engine, settings=SETTINGS, clock=clock)
    reaper._database_settled()
    reaper._available_since = clock.now_s - 0.1
    assert reaper.round() == 0


def test_the_late_are_ended_in_spite_of_a_gap(
    farm: FarmDatabase, reaper: Reaper, clock: Clock
) -> None:
    """A deadline is the tenant's: nobody's renewal could have moved it."""
    late = farm.queued()
    farm.outdate(late)
    clock.now_s += GAP_S + 1
    assert reaper.round() == 1
    assert farm.state(late)[0] == "expired"
