"""Simulation: every strategy serves every job once, and the engine's policy gains by it."""

from __future__ import annotations

import pytest

from bench.engine.devices import DEVICES, H100
from bench.engine.measure import figures
from bench.engine.simulate import STRATEGIES
from bench.engine.traces import MIXES, Ask, burst, poisson


def idle_device_s(ask: Ask) -> float:
    """Return a job's seconds on an idle device."""
    return ask.steps * H100.seconds(ask.rows)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mix", MIXES)
def test_every_job_ends_once_and_not_before_it_could(strategy: str, mix: str) -> None:
    """No strategy loses a job or is faster than an idle device."""
    trace = poisson(25, 1.5, mix, 0, idle_device_s)
    ended = STRATEGIES[strategy](trace, H100.seconds)
    assert set(ended) == {ask.name for ask in trace}
    assert all(ended[ask.name] - ask.at_s >= idle_device_s(ask) - 1e-9 for ask in trace)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_single_job_takes_the_time_of_an_idle_device(strategy: str) -> None:
    """On an idle device all strategies are equal, except for the window's wait."""
    single = Ask("a", 3.0, 20, 2)
    ended = STRATEGIES[strategy]([single], H100.seconds)
    assert ended["a"] - 3.0 == pytest.approx(idle_device_s(single), abs=0.051)


def test_device_models_pass_through_the_published_points() -> None:
    """At the published sizes T(rows) is the published time; elsewhere it is linear."""
    for device in DEVICES.values():
        for pictures, call_s in device.call_s:
            assert device.seconds(2 * pictures) == pytest.approx(call_s / 30)
    assert H100.seconds(3) == pytest.approx((1.06 + 1.73) / 60)
    assert 0 < H100.seconds(1) < H100.seconds(2)


@pytest.mark.parametrize("device", DEVICES)
def test_a_burst_has_a_lower_mean_than_with_any_other_strategy(device: str) -> None:
    """A full batch delays all jobs until its end; the engine's policy ends the first ones early."""
    for mix in MIXES:
        trace, seconds = burst(16, mix, 1), DEVICES[device].seconds
        means = {
            strategy: figures(trace, run(trace, seconds))["mean_s"]
            for strategy, run in STRATEGIES.items()
        }
        assert means["ours"] == min(
            means[strategy] for strategy in ("serial", "threads", "window", "first-come", "ours")
        )


def test_short_jobs_do_not_queue_behind_long_ones() -> None:
    """At saturation with steps 4, 4, 4, 50 the mean is less than half that of one at a time."""
    trace = poisson(60, 1.5, "4-4-4-50", 2, idle_device_s)
    ours, serial = (
        figures(trace, STRATEGIES[strategy](trace, H100.seconds))["mean_s"]
        for strategy in ("ours", "serial")
    )
    assert ours < serial / 2


def test_a_rare_shape_is_served_in_a_flood_of_another() -> None:
    """A long job of its own shape does not starve in a stream that keeps the device busy."""
    flood = [Ask(f"job {n}", n * 0.2, 4, 2) for n in range(200)]
    rare = Ask("rare", 0.0, 50, 2, shape="b")
    ended = STRATEGIES["ours"](sorted([rare, *flood], key=lambda ask: ask.at_s), H100.seconds)
    assert ended["rare"] < 15 * idle_device_s(rare)
    assert ended["rare"] < flood[-1].at_s
