"""What the benchmarks make of what they see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bench.farm.contenders import Parts, Stamps
from bench.farm.latency import figures
from bench.farm.plan import Plan
from bench.farm.rounds import play, turned
from bench.processor import Usage, total

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def _parts() -> Parts:
    row = Stamps(_at(1), _at(3), _at(9), render_s=4.0, store_s=1.0)
    return Parts.of(BEGAN, _at(2), _at(10), row)


def test_parts_add_up_to_the_whole() -> None:
    """All parts but the submitting call, which overlaps, make up the time from call to answer."""
    parts = _parts()
    shares = parts.figures()
    whole, _ = shares.pop("total_s"), shares.pop("submit_s")
    assert whole == sum(shares.values()) == 10
    assert (parts.accept_s, parts.queued_s, parts.other_s, parts.answer_s) == (1, 2, 1, 1)


def test_overhead_is_all_but_rendering() -> None:
    """The latency's overhead is the whole without the rendering, and its ratio is over it."""
    found = figures([_parts()])
    assert (found["overhead_s"], found["times_render"]) == (6.0, 2.5)


def test_sides_take_turns() -> None:
    """Who goes first changes from round to round, and the result keeps the order given."""
    order: list[str] = []

    def turn(name: str) -> dict[str, float]:
        order.append(name)
        return {"jobs_per_s": float(len(order))}

    result = play(2, {"a": lambda: turn("a"), "b": lambda: turn("b")}, lambda _: None)
    assert order == ["a", "b", "b", "a"]
    assert [list(each) for each in result.rounds] == [["a", "b"], ["a", "b"]]
    assert result.json(("a", "b"))["ratios"]["a/b"]["jobs_per_s"]["most"] == pytest.approx(4 / 3)
    assert turned("ab", 1) == ["b", "a"]


def test_processor_time_counts_each_process_of_a_tree_once() -> None:
    """A root, its descendants and another root below it count once, strangers never."""
    usages = {1: Usage(0, 10.0), 2: Usage(1, 1.0), 3: Usage(2, 2.0), 4: Usage(3, 4.0)}
    assert total(usages, [2, 3]) == 7.0
    assert total(usages, [99]) == 0.0


def test_a_process_name_may_hold_anything() -> None:
    """Parent and times are read from a line whose process name holds brackets and spaces."""
    numbers = " ".join(["0"] * 9 + ["100", "100", "0", "0"] + ["0"] * 30)
    usage = Usage.of(f"7 (odd) name) S 3 {numbers}\n")
    assert usage.parent == 3
    assert usage.seconds > 0


def test_quick_plan_asks_for_less_of_the_same() -> None:
    """The quick plan has fewer jobs, and the same kinds."""
    quick, full = Plan().quick(), Plan()
    assert len(quick.burst_asks()) < len(full.burst_asks())
    assert {ask.size for ask in quick.burst_asks()} == {ask.size for ask in full.burst_asks()}
    assert len({ask.steps for ask in full.burst_asks()}) == len(full.burst_steps)
