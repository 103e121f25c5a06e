"""bench.engine.cpu: the order of the strategies."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.engine.cpu import render_all
from bench.engine.traces import burst


class Rig:
    """A rig with four strategies that render at once and log their names."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.pixels: dict[str, Any] = {}
        self.strategies = {name: self._strategy(name, shade) for shade, name in enumerate("abcd")}

    def _strategy(self, name: str, shade: int) -> Any:
        def render(trace: Any) -> dict[str, float]:
            self.log.append(name)
            self.pixels = {ask.name: np.full((2, 2, 3), shade, np.uint8) for ask in trace}
            return {ask.name: 1.0 + shade for ask in trace}

        return render


def test_each_trace_begins_with_another_strategy() -> None:
    """In any order, pictures are compared with the first strategy's and figures keep their name."""
    rig: Any = Rig()
    traces = [burst(2, "uniform", seed) for seed in range(2)]
    figures = render_all(rig, traces, lambda _: None)
    assert rig.log[:4] == ["a", "b", "c", "d"]
    assert sorted(rig.log[4:]) == ["a", "b", "c", "d"]
    assert rig.log[4] != "a"
    assert [figures[strategy]["distance"] for strategy in "abcd"] == [0, 1, 2, 3]
    assert [figures[strategy]["mean_s"] for strategy in "abcd"] == [1.0, 2.0, 3.0, 4.0]
