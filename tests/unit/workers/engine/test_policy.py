"""Policy: who starts and which calls run next, to the last branch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.engine.policy import (
    AGEING,
    PRIORITY_S,
    Candidate,
    Parked,
    admit,
    best_rows,
    choose,
    rank,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


def flat(_: int) -> float:
    """Take a second whatever the rows: every row more is free."""
    return 1.0


def linear(rows: int) -> float:
    """Take a second for each row: stacking gains nothing."""
    return float(rows)


@dataclass
class Device:
    """A device of which all is known."""

    time: Callable[[int], float] = flat
    most: int = 8
    pressure: float = 0.0
    slower: dict[Hashable, float] = field(default_factory=dict)

    def seconds(self, key: Hashable, rows: int) -> float:
        """Give T(rows)."""
        return self.time(rows) * self.slower.get(key, 1.0)

    def limit(self, key: Hashable) -> int:
        """Hold as many rows of any key."""
        del key
        return self.most


CALLS = st.builds(
    Parked,
    job=st.integers(0, 10**6).map(str),
    key=st.sampled_from(["small", "large", "text"]),
    rows=st.integers(1, 6),
    calls_left=st.integers(0, 50).map(float),
    waited_s=st.floats(0, 200),
    priority=st.integers(-3, 3),
    unbatched=st.booleans(),
)


def equals(count: int, calls: float = 5, rows: int = 1) -> list[Parked]:
    """Give so many equal jobs."""
    return [Parked(str(n), "a", rows, calls) for n in range(count)]


def test_nothing_parked_runs_nothing() -> None:
    """Without a parked call there is no group."""
    assert choose([], Device()) == []


def test_least_work_left_goes_first() -> None:
    """The job nearest to its end leads, whatever the order of arrival."""
    parked = [Parked("long", "a", 1, 30), Parked("short", "b", 1, 3)]
    assert choose(parked, Device()) == ["short"]


def test_work_is_counted_in_seconds_not_in_steps() -> None:
    """Five steps of a shape that is ten times slower are more work than thirty of a small one."""
    parked = [Parked("large", "b", 1, 5), Parked("small", "a", 1, 30)]
    assert choose(parked, Device(slower={"b": 10.0})) == ["small"]


def test_equals_go_in_order_of_arrival() -> None:
    """Between jobs of equal rank the first come goes first."""
    parked = [Parked(name, name, 1, 5) for name in "cab"]
    assert choose(parked, Device()) == ["c"]


def test_those_who_can_share_the_leaders_forward_join_it() -> None:
    """A group holds the leader's key alone, in the order of the line."""
    parked = [Parked("x", "a", 2, 9), Parked("other", "b", 2, 5), Parked("y", "a", 2, 1)]
    assert choose(parked, Device()) == ["y", "x"]


def test_the_limit_bounds_the_rows_and_smaller_jobs_fill_what_is_left() -> None:
    """A job too large for the room left is skipped, a smaller one behind it is taken."""
    parked = [Parked("first", "a", 3, 1), Parked("large", "a", 3, 2), Parked("small", "a", 1, 3)]
    assert choose(parked, Device(most=4)) == ["first", "small"]


def test_a_leader_wider_than_the_limit_runs_by_itself() -> None:
    """A job of more rows than the limit still runs, without company."""
    parked = [Parked("wide", "a", 8, 1), Parked("thin", "a", 1, 2)]
    assert choose(parked, Device(most=4)) == ["wide"]


def test_one_that_stays_apart_leads_alone_and_is_nobodys_mate() -> None:
    """Equal keys or not, it shares no forward, even where a row more is free."""
    apart, others = replace(Parked("x", "a", 1, 1), unbatched=True), equals(3)
    assert choose([*others, apart], Device()) == ["x"]
    assert choose([*others, replace(apart, calls_left=9)], Device()) == ["0", "1", "2"]


def test_rows_that_are_free_are_all_taken() -> None:
    """Where a forward costs the same whatever its rows, everybody runs."""
    assert best_rows(equals(8), 0, Device()) == 8


def test_a_device_without_any_gain_runs_one_job_at_a_time() -> None:
    """Where time grows with the rows, stacking only delays whoever is first."""
    assert best_rows(equals(8), 0, Device(linear)) == 1
    assert choose(equals(8), Device(linear)) == ["0"]


def test_a_burst_is_not_held_back_by_a_full_batch() -> None:
    """Where 8 rows give a fifth more than one by one, the mean of a burst is better one by one."""
    assert best_rows(equals(8), 0, Device(lambda rows: rows ** (1 - 0.0877))) < 8


def test_a_busy_device_stacks_what_an_idle_one_would_not() -> None:
    """The more jobs are to be expected, the more a small gain in throughput is worth."""
    gains = Device(lambda rows: 0.4 + 0.6 * rows)
    idle = best_rows(equals(4), 0, gains)
    gains.pressure = 9.0
    assert idle < best_rows(equals(4), 0, gains) == 4


def test_two_share_even_where_the_mean_alone_would_have_them_apart() -> None:
    """One after the other, 1.5 calls' time in the mean, is passed over for 1.6 that spares the last."""
    assert best_rows(equals(2), 0, Device(lambda rows: 0.4 + 0.6 * rows)) == 2
    assert best_rows(equals(2), 0, Device(lambda rows: 0.2 + 0.8 * rows)) == 1


def test_who_has_waited_long_is_taken_along_where_a_newcomer_is_not() -> None:
    """The leader is held back a little for a long job that waits, not for one that has just come."""
    device = Device(lambda rows: 0.13 + 0.87 * rows)
    short, new = Parked("short", "a", 1, 5), Parked("long", "a", 1, 50)
    old = replace(new, waited_s=80)
    assert choose([short, new], device) == ["short"]
    assert choose([short, old], device) == ["short", "long"]


def test_others_who_wait_behind_count_as_well() -> None:
    """Jobs that cannot share the forward still wait for it to be over."""
    gains = Device(lambda rows: 0.4 + 0.6 * rows)
    assert best_rows(equals(4), 0, gains) < best_rows(equals(4), 40, gains)


def test_a_width_may_be_any_number_of_rows_that_fits() -> None:
    """All rows are a choice even when their number is no power of two."""
    assert best_rows(equals(5), 0, Device()) == 5
    assert best_rows(equals(3, rows=2), 0, Device()) == 6


def test_the_width_at_which_more_stops_paying_is_found() -> None:
    """Where six rows are free and a seventh is not, three jobs of two rows run together."""
    device = Device(lambda rows: 1.0 if rows <= 6 else float(rows), most=16)
    assert best_rows(equals(8, rows=2), 0, device) == 6


def test_priority_is_a_head_start_in_waiting() -> None:
    """A level of priority is worth a minute of waiting."""
    urgent = Parked("urgent", "a", 1, 12, priority=1)
    patient = Parked("patient", "a", 1, 12, waited_s=PRIORITY_S)
    assert rank(urgent, Device()) == rank(patient, Device())


@given(extra=st.floats(1, 100), gap=st.floats(0, 1000))
def test_ageing_bounds_who_can_pass(extra: float, gap: float) -> None:
    """Of two shapes, who comes more than extra / AGEING seconds later never goes first."""
    old = Parked("old", "large", 1, 1 + extra, waited_s=gap)
    new = Parked("new", "small", 1, 1)
    assert choose([old, new], Device()) == (["old"] if gap >= extra / AGEING else ["new"])


def test_a_long_job_is_served_while_short_ones_keep_coming() -> None:
    """A job with 50 steps left, against a new one-step job each second, waits a bounded time."""
    waited_s = 0.0
    while choose(
        [Parked("new", "b", 1, 1), Parked("long", "a", 1, 50, waited_s)], Device()
    ) != ["long"]:  # fmt: skip
        waited_s += 1
        assert waited_s <= 49 / AGEING + 1


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    parked=st.lists(CALLS, max_size=20, unique_by=lambda call: call.job),
    most=st.integers(1, 8),
    pressure=st.floats(0, 9),
    time=st.sampled_from([flat, linear]),
)
def test_a_group_is_of_one_key_within_the_limit_and_led_by_the_lowest_rank(
    parked: list[Parked], most: int, pressure: float, time: Callable[[int], float]
) -> None:
    """For any state the group is one that may share a forward, and the first in line is in it."""
    device = Device(time, most, pressure)
    chosen = choose(parked, device)
    by_name = {call.job: call for call in parked}
    group = [by_name[name] for name in chosen]
    assert len(set(chosen)) == len(chosen)
    if parked:
        assert rank(group[0], device) == min(rank(call, device) for call in parked)
        assert {call.key for call in group} == {group[0].key}
        assert len(group) == 1 or not any(call.unbatched for call in group)
        assert sum(call.rows for call in group) <= max(most, group[0].rows)


@pytest.mark.parametrize(
    ("waiting", "in_flight", "starts"),
    [
        ("", "", []),
        ("..", "", [0, 1]),
        (".", "..", [0]),
        ("a.", "", [0]),
        ("a", ".", []),
        (".a.", ".", [0]),
        ("..", "a", []),
        ("a", "a", []),
        ("1.12", "", [0, 1, 3]),
        ("1.2", "1", [1, 2]),
        ("1a.", "1", []),
    ],
)
def test_a_job_that_must_run_alone_does(waiting: str, in_flight: str, starts: list[int]) -> None:
    """It (`a`) starts when nobody is in flight, nobody joins it, and those behind it wait.

    Of those who share a lane (`1`, `2`) one is in flight at a time; others pass by.
    """
    kinds = {".": Candidate(), "a": Candidate(exclusive=True)}
    here, there = (
        [kinds.get(kind, Candidate(lane=kind)) for kind in line] for line in (waiting, in_flight)
    )
    assert admit(here, there) == starts


def test_policy_and_cost_are_plain_python() -> None:
    """Deciding needs no torch: importing the two modules does not bring it in."""
    program = (
        "import sys, workers.engine.policy, workers.engine.cost; print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
