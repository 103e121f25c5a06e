"""When intake receives, pauses and extends: the arithmetic."""

from __future__ import annotations

import pytest

from app.intake import pacing


def test_pauses_grow_to_a_limit() -> None:
    """Each failure in a row waits longer, up to the last pause, which stays."""
    pauses = [pacing.pause_s(failures) for failures in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.1
    assert pauses[-1] == pacing.BACKOFF_S[-1]


@pytest.mark.parametrize(
    ("free", "wanted"), [(-5, 0), (0, 0), (1, 1), (99, 99), (100, 100), (10_000, 100)]
)
def test_no_more_is_fetched_than_there_is_room_for(free: int, wanted: int) -> None:
    """A full or overfull queue of the tenant fetches nothing; an empty one a batch."""
    assert pacing.wanted(free) == wanted


@pytest.mark.parametrize(
    ("free", "age_s", "needed"),
    [(100, 0.0, False), (100, 0.99, False), (100, 1.0, True), (99, 0.0, True), (0, 0.0, True)],
)
def test_a_count_is_trusted_while_it_is_fresh_and_ample(
    *, free: int, age_s: float, needed: bool
) -> None:
    """The queued jobs are counted once a second, and for each batch when room is short."""
    assert pacing.needs_count(free, age_s) is needed


def test_leases_are_due_after_a_third() -> None:
    """Of leases of 30 s, those that began 10 s ago or earlier are due."""
    assert pacing.due({"a": 0.0, "b": 5.0, "c": 5.1}, 30.0, 15.0) == ["a", "b"]
    assert pacing.due({}, 30.0, 15.0) == []


@pytest.mark.parametrize(
    ("leased_at", "left_s"),
    [({}, None), ({"a": 12.0}, 7.0), ({"a": 12.0, "b": 8.0}, 3.0), ({"a": 1.0}, 0.0)],
)
def test_the_next_look_is_when_the_oldest_lease_is_due(
    leased_at: dict[str, float], left_s: float | None
) -> None:
    """It sleeps until the next lease is due, not at all when one is overdue."""
    assert pacing.next_due_s(leased_at, 30.0, 15.0) == left_s
