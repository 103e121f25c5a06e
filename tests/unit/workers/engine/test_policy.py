"""Policy: which jobs start, and which calls run next."""

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
    """Return a second for any rows: batching is free."""
    return 1.0


def linear(rows: int) -> float:
    """Return a second per row: batching gains nothing."""
    return float(rows)


@dataclass
class Device:
    """A device with known costs."""

    time: Callable[[int], float] = flat
    most: int = 8
    pressure: float = 0.0
    slower: dict[Hashable, float] = field(default_factory=dict)

    def seconds(self, key: Hashable, rows: int) -> float:
        """Return T(rows)."""
        return self.time(rows) * self.slower.get(key, 1.0)

    def limit(self, key: Hashable) -> int:
        """Return the same limit for every key."""
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


def equal_jobs(count: int, calls: float = 5, rows: int = 1) -> list[Parked]:
    """Return `count` equal jobs."""
    return [Parked(str(n), "a", rows, calls) for n in range(count)]


def test_nothing_parked_runs_nothing() -> None:
    """Without a parked call there is no group."""
    assert choose([], Device()) == []


def test_least_work_left_goes_first() -> None:
    """The job nearest to its end leads, in any order of arrival."""
    parked = [Parked("long", "a", 1, 30), Parked("short", "b", 1, 3)]
    assert choose(parked, Device()) == ["short"]


def test_work_is_counted_in_seconds_not_in_steps() -> None:
    """Five steps of a shape that is ten times slower are more work than thirty of a small shape."""
    parked = [Parked("large", "b", 1, 5), Parked("small", "a", 1, 30)]
    assert choose(parked, Device(slower={"b": 10.0})) == ["small"]


def test_jobs_of_equal_rank_run_in_order_of_arrival() -> None:
    """Of jobs of equal rank the first arrival leads."""
    parked = [Parked(name, name, 1, 5) for name in "cab"]
    assert choose(parked, Device()) == ["c"]


def test_jobs_that_can_share_the_leaders_forward_join_it() -> None:
    """All jobs of a group have the leader's key and keep the order of the line."""
    parked = [Parked("x", "a", 2, 9), Parked("other", "b", 2, 5), Parked("y", "a", 2, 1)]
    assert choose(parked, Device()) == ["y", "x"]


def test_smaller_jobs_fill_the_rows_up_to_the_limit() -> None:
    """A job that exceeds the remaining rows is skipped, and a smaller one behind it is taken."""
    parked = [Parked("first", "a", 3, 1), Parked("large", "a", 3, 2), Parked("small", "a", 1, 3)]
    assert choose(parked, Device(most=4)) == ["first", "small"]


def test_a_leader_wider_than_the_limit_runs_unbatched() -> None:
    """A job of more rows than the limit still runs, as the only one of its group."""
    parked = [Parked("wide", "a", 8, 1), Parked("thin", "a", 1, 2)]
    assert choose(parked, Device(most=4)) == ["wide"]


def test_an_unbatched_job_shares_no_forward() -> None:
    """It neither takes others along nor joins them, even if a further row is free."""
    unbatched, others = replace(Parked("x", "a", 1, 1), unbatched=True), equal_jobs(3)
    assert choose([*others, unbatched], Device()) == ["x"]
    assert choose([*others, replace(unbatched, calls_left=9)], Device()) == ["0", "1", "2"]


def test_rows_that_are_free_are_all_taken() -> None:
    """If a forward of any rows takes the same time, all jobs run."""
    assert best_rows(equal_jobs(8), 0, Device()) == 8


def test_a_device_without_any_gain_runs_one_job_at_a_time() -> None:
    """If the time is proportional to the rows, batching only delays the leader."""
    assert best_rows(equal_jobs(8), 0, Device(linear)) == 1
    assert choose(equal_jobs(8), Device(linear)) == ["0"]


def test_a_burst_is_not_held_back_by_a_full_batch() -> None:
    """If 8 rows give only a fifth more throughput, smaller groups have a better mean."""
    assert best_rows(equal_jobs(8), 0, Device(lambda rows: rows ** (1 - 0.0877))) < 8


def test_a_busy_device_batches_more_than_an_idle_one() -> None:
    """The more arrivals are expected, the more a small gain in throughput is worth."""
    gains = Device(lambda rows: 0.4 + 0.6 * rows)
    idle = best_rows(equal_jobs(4), 0, gains)
    gains.pressure = 9.0
    assert idle < best_rows(equal_jobs(4), 0, gains) == 4


def test_two_jobs_share_even_if_the_mean_is_a_little_worse() -> None:
    """A mean wait of 1.6 calls is preferred to 1.5, because the slower job waits less."""
    assert best_rows(equal_jobs(2), 0, Device(lambda rows: 0.4 + 0.6 * rows)) == 2
    assert best_rows(equal_jobs(2), 0, Device(lambda rows: 0.2 + 0.8 * rows)) == 1


def test_a_job_that_has_waited_long_is_taken_along() -> None:
    """The leader is delayed a little for a long job that has waited, not for a new one."""
    device = Device(lambda rows: 0.13 + 0.87 * rows)
    short, new = Parked("short", "a", 1, 5), Parked("long", "a", 1, 50)
    old = replace(new, waited_s=80)
    assert choose([short, new], device) == ["short"]
    assert choose([short, old], device) == ["short", "long"]


def test_jobs_that_wait_behind_count_as_well() -> None:
    """Jobs that cannot share the forward still wait for its end."""
    gains = Device(lambda rows: 0.4 + 0.6 * rows)
    assert best_rows(equal_jobs(4), 0, gains) < best_rows(equal_jobs(4), 40, gains)


def test_the_best_rows_may_be_any_number_that_fits() -> None:
    """All rows together are a choice even if their number is no power of two."""
    assert best_rows(equal_jobs(5), 0, Device()) == 5
    assert best_rows(equal_jobs(3, rows=2), 0, Device()) == 6


def test_the_rows_at_which_the_gain_ends_are_found() -> None:
    """If six rows are free and a seventh is not, three jobs of two rows run together."""
    device = Device(lambda rows: 1.0 if rows <= 6 else float(rows), most=16)
    assert best_rows(equal_jobs(8, rows=2), 0, device) == 6


def test_priority_is_a_head_start_in_waiting() -> None:
    """A level of priority is worth a minute of waiting."""
    urgent = Parked("urgent", "a", 1, 12, priority=1)
    patient = Parked("patient", "a", 1, 12, waited_s=PRIORITY_S)
    assert rank(urgent, Device()) == rank(patient, Device())


@given(extra=st.floats(1, 100), gap=st.floats(0, 1000))
def test_ageing_bounds_which_jobs_can_pass(extra: float, gap: float) -> None:
    """A job that arrives more than extra / AGEING seconds later never goes first."""
    old = Parked("old", "large", 1, 1 + extra, waited_s=gap)
    new = Parked("new", "small", 1, 1)
    assert choose([old, new], Device()) == (["old"] if gap >= extra / AGEING else ["new"])


def test_a_long_job_is_served_while_short_ones_keep_coming() -> None:
    """A job with 50 steps waits a bounded time while a one-step job arrives each second."""
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
def test_a_group_has_one_key_fits_the_limit_and_has_the_lowest_rank_first(
    parked: list[Parked], most: int, pressure: float, time: Callable[[int], float]
) -> None:
    """In any state the group may share a forward, and the first job in line leads it."""
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
        ("x.", "", [0]),
        ("x", ".", []),
        (".x.", ".", [0]),
        ("..", "x", []),
        ("x", "x", []),
        ("1.12", "", [0, 1, 3]),
        ("1.2", "1", [1, 2]),
        ("1x.", "1", []),
    ],
)
def test_an_exclusive_job_and_a_lane_hold_back_others(
    waiting: str, in_flight: str, starts: list[int]
) -> None:
    """An exclusive job (`x`) starts when no job is in flight, and holds back the jobs behind it.

    One job of each lane (`1`, `2`) is in flight at a time; other jobs pass.
    """
    kinds = {".": Candidate(), "x": Candidate(exclusive=True)}
    candidates, others = (
        [kinds.get(kind, Candidate(lane=kind)) for kind in line] for line in (waiting, in_flight)
    )
    assert admit(candidates, others) == starts


def test_policy_cost_and_memory_are_plain_python() -> None:
    """Importing the decision modules does not import torch."""
    program = (
        "import sys, workers.engine.policy, workers.engine.cost, workers.engine.memory; "
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
