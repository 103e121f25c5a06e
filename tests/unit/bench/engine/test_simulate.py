"""The simulator: every strategy serves every job once, and ours is worth having."""

from __future__ import annotations

import pytest

from bench.engine.devices import DEVICES, H100
from bench.engine.measure import figures
from bench.engine.simulate import STRATEGIES
from bench.engine.traces import MIXES, Ask, burst, poisson


def alone_s(ask: Ask) -> float:
    """Give a job's seconds on an idle device."""
    return ask.steps * H100.seconds(ask.rows)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mix", MIXES)
def test_every_job_ends_once_and_not_before_it_could(strategy: str, mix: str) -> None:
    """No strategy loses a job or serves it faster than an idle device would."""
    trace = poisson(25, 1.5, mix, 0, alone_s)
    ended = STRATEGIES[strategy](trace, H100.seconds)
    assert set(ended) == {ask.name for ask in trace}
    assert all(ended[ask.name] - ask.at_s >= alone_s(ask) - 1e-9 for ask in trace)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_job_alone_takes_its_time_and_no_more(strategy: str) -> None:
    """On an idle device all strategies are equal, but for the window's wait."""
    lone = Ask("a", 3.0, 20, 2)
    ended = STRATEGIES[strategy]([lone], H100.seconds)
    assert ended["a"] - 3.0 == pytest.approx(alone_s(lone), abs=0.051)


def test_device_models_pass_through_the_published_points() -> None:
    """At the published sizes T(rows) is the published time; between and beyond it is a line."""
    for device in DEVICES.values():
        for pictures, call_s in device.call_s:
            assert device.seconds(2 * pictures) == pytest.approx(call_s / 30)
    assert H100.seconds(3) == pytest.approx((1.06 + 1.73) / 60)
    assert 0 < H100.seconds(1) < H100.seconds(2)


@pytest.mark.parametrize("device", DEVICES)
def test_a_burst_ends_sooner_in_the_mean_than_with_any_other_arm(device: str) -> None:
    """A full batch holds everybody back until the end; ours lets the first ones leave."""
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
    """At saturation with steps 4, 4, 4, 50 the mean is less than half of one at a time."""
    trace = poisson(60, 1.5, "4-4-4-50", 2, alone_s)
    ours, serial = (
        figures(trace, STRATEGIES[strategy](trace, H100.seconds))["mean_s"]
        for strategy in ("ours", "serial")
    )
    assert ours < serial / 2


def test_a_lone_shape_is_served_in_a_flood_of_another() -> None:
    """A long job of its own shape, in a stream that would keep the device busy, is not starved."""
    flood = [Ask(f"job {n}", n * 0.2, 4, 2) for n in range(200)]
    lone = Ask("lone", 0.0, 50, 2, shape="b")
    ended = STRATEGIES["ours"](sorted([lone, *flood], key=lambda ask: ask.at_s), H100.seconds)
    assert ended["lone"] < 15 * alone_s(lone)
    assert ended["lone"] < flood[-1].at_s
