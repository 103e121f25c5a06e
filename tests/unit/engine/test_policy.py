"""Policy: who starts and which calls run next, to the last branch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.policy import AGEING_STEPS_PER_TICK, Parked, admit, choose

CALLS = st.builds(
    Parked,
    job=st.uuids().map(str),
    key=st.sampled_from(["small", "large", "text"]),
    rows=st.integers(1, 6),
    steps_left=st.integers(0, 50).map(float),
    passed_over=st.integers(0, 200),
    priority=st.integers(-3, 3),
)


def test_nothing_parked_runs_nothing() -> None:
    """Without a parked call there is no group."""
    assert choose([], lambda _: 8) == []


def test_fewest_steps_left_goes_first() -> None:
    """The job nearest to its end leads, whatever the order of arrival."""
    parked = [Parked("long", "a", 1, steps_left=30), Parked("short", "b", 1, steps_left=3)]
    assert choose(parked, lambda _: 8) == ["short"]


def test_equals_go_in_order_of_arrival() -> None:
    """Between jobs of equal rank the first come goes first."""
    parked = [Parked(name, name, 1, steps_left=5) for name in "cab"]
    assert choose(parked, lambda _: 8) == ["c"]


def test_those_who_can_share_the_leaders_forward_join_it() -> None:
    """A group holds the leader's key alone, in the order of the line."""
    parked = [
        Parked("x", "a", 2, steps_left=9),
        Parked("other", "b", 2, steps_left=5),
        Parked("y", "a", 2, steps_left=1),
    ]
    assert choose(parked, lambda _: 8) == ["y", "x"]


def test_the_cap_bounds_the_rows_and_smaller_jobs_fill_what_is_left() -> None:
    """A job too large for the room left is skipped, a smaller one behind it is taken."""
    parked = [
        Parked("first", "a", 3, steps_left=1),
        Parked("large", "a", 3, steps_left=2),
        Parked("small", "a", 1, steps_left=3),
    ]
    assert choose(parked, lambda _: 4) == ["first", "small"]


def test_the_cap_is_that_of_the_leaders_key() -> None:
    """Each key has a cap of its own."""
    parked = [Parked(str(n), "a", 1) for n in range(4)]
    assert len(choose(parked, {"a": 3, "b": 1}.__getitem__)) == 3


def test_a_leader_wider_than_the_cap_runs_by_itself() -> None:
    """A job of more rows than the cap still runs, without company."""
    parked = [Parked("wide", "a", 8, steps_left=1), Parked("thin", "a", 1, steps_left=2)]
    assert choose(parked, lambda _: 4) == ["wide"]


def test_priority_is_a_head_start() -> None:
    """A job of a higher priority passes one that has somewhat fewer steps left."""
    parked = [
        Parked("short", "a", 1, steps_left=5),
        Parked("urgent", "b", 1, steps_left=12, priority=1),
    ]
    assert choose(parked, lambda _: 8) == ["urgent"]


def test_a_long_job_is_served_while_short_ones_keep_coming() -> None:
    """A job with 50 steps left, against a new one-step job each tick, waits a bounded time."""
    passed_over = 0
    while choose(
        [Parked("new", "b", 1, steps_left=1), Parked("long", "a", 1, 50, passed_over)], lambda _: 1
    ) != ["long"]:
        passed_over += 1
        assert passed_over <= 49 / AGEING_STEPS_PER_TICK + 1


@given(parked=st.lists(CALLS, max_size=12, unique_by=lambda call: call.job), cap=st.integers(1, 8))
def test_a_group_is_of_one_key_within_the_cap_and_led_by_the_lowest_rank(
    parked: list[Parked], cap: int
) -> None:
    """For any state the group is one that may share a forward, and the first in line is in it."""
    chosen = choose(parked, lambda _: cap)
    by_name = {call.job: call for call in parked}
    group = [by_name[name] for name in chosen]
    assert len(set(chosen)) == len(chosen)
    if parked:
        assert group[0].rank == min(call.rank for call in parked)
        assert {call.key for call in group} == {group[0].key}
        assert sum(call.rows for call in group) <= max(cap, group[0].rows)


@pytest.mark.parametrize(
    ("waiting", "in_flight", "starts"),
    [
        ([], [], 0),
        ([False, False], [], 2),
        ([False], [False, False], 1),
        ([True, False], [], 1),
        ([True], [False], 0),
        ([False, True, False], [False], 1),
        ([False, False], [True], 0),
        ([True], [True], 0),
    ],
)
def test_a_job_that_must_run_alone_does(
    waiting: list[bool], in_flight: list[bool], starts: int
) -> None:
    """It starts when nobody is in flight, nobody joins it, and those behind it wait."""
    assert admit(waiting, in_flight) == starts


def test_policy_and_cost_are_plain_python() -> None:
    """Deciding needs no torch: importing the two modules does not bring it in."""
    program = (
        "import sys, workers.engine.policy, workers.engine.cost; print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
