"""The legal moves of a job, and the backoff of its retries."""

from __future__ import annotations

import itertools

import pytest

from app.jobs.states import MOVES, Actor, legal, retry_delay_s
from renderfarm.types import FINAL, Status


def test_the_table_has_thirteen_moves() -> None:
    """`MOVES` has exactly these moves, each with its actor and its event."""
    assert {(m.before, m.after, m.actor, m.event) for m in MOVES} == {
        (None, "queued", "accept", "queued"),
        ("queued", "succeeded", "accept", "succeeded"),
        ("queued", "running", "worker", "running"),
        ("running", "succeeded", "holder", "succeeded"),
        ("running", "failed", "holder", "failed"),
        ("running", "queued", "holder", "retried"),
        ("running", "queued", "holder", "released"),
        ("running", "queued", "reaper", "rescued"),
        ("running", "failed", "reaper", "failed"),
        ("queued", "cancelled", "tenant", "cancelled"),
        ("running", "cancelled", "tenant", "cancelled"),
        ("queued", "expired", "reaper", "expired"),
        ("running", "expired", "reaper", "expired"),
    }
    assert len(MOVES) == 13


def test_nothing_leaves_a_final_state() -> None:
    """No actor may move a job out of a final state."""
    for before, after, actor in itertools.product(FINAL, Status, Actor):
        assert not legal(before, after, actor)


def test_legal_is_the_table_and_nothing_more() -> None:
    """Of all possible moves, exactly those of the table are legal."""
    possible = itertools.product([None, *Status], Status, Actor)
    assert {move for move in possible if legal(*move)} == {
        (m.before, m.after, m.actor) for m in MOVES
    }


def test_every_state_is_reachable() -> None:
    """Each state can be reached, and each state that is not final has a move to a final one."""
    reached: set[Status | None] = {None}
    for _ in Status:
        reached |= {m.after for m in MOVES if m.before in reached}
    assert reached == {None, *Status}
    for status in set(Status) - FINAL:
        assert any(m.before == status and m.after in FINAL for m in MOVES)


@pytest.mark.parametrize(
    ("failures", "delay_s"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (100, 60)]
)
def test_retries_wait_longer_each_time(failures: int, delay_s: float) -> None:
    """The wait doubles with each failure, from 1 s to 60 s."""
    assert retry_delay_s(failures) == delay_s
