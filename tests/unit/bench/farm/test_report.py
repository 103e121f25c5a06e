"""The table and the plot of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from PIL import Image

from bench.farm.main_line import write
from bench.farm.plan import Plan
from bench.farm.report import BURST, LATENCY, THROUGHPUT, markdown, spread
from bench.farm.rounds import Result

if TYPE_CHECKING:
    from pathlib import Path


def _result() -> dict[str, Any]:
    def found(lines: Any, *contenders: str) -> dict[str, Any]:
        rounds = [
            {
                side: {figure: number * (n + 1.0) for _, figure in lines}
                for n, side in enumerate(contenders)
            }
            for number in (1, 2, 3)
        ]
        pairs = [(side, "handmade") for side in contenders if side != "handmade"]
        return Result(tuple(rounds)).json(*pairs)

    both = ("farm", "handmade")
    latency = {model: found(LATENCY, *both) for model in ("null", "scenes")}
    burst = {**found(BURST, *both), "largest_pixel_difference_of_255": 1}
    return {
        "measured_at": "2026-01-01", "commit": "abc", "took_s": 1.0, "settings": asdict(Plan()),
        "machine": {"cpu": "a cpu", "cores": 2, "memory": "1 kB", "system": "an os",
                    "torch_threads": "1", "load_average": [0.1, 0.1, 0.1]},
        "versions": {"python": "3.11"}, "model": {"name": "scenes", "stand_in": True,
                                                  "revision": ""},
        "parts": {"latency": latency, "burst": burst,
                  "throughput": found(THROUGHPUT, *both, "farm_batch")},
    }  # fmt: skip


def test_the_table_comes_from_the_json(tmp_path: Path) -> None:
    """Writing a result leaves its JSON, a table with each figure's median and ratio, and a PNG."""
    table = write(_result(), tmp_path)
    text = table.read_text()
    assert "| images/s | 2.00 (1.00 to 3.00) | 4.00 (2.00 to 6.00) | 0.50 |" in text
    assert "random weights" in text
    assert json.loads((tmp_path / "main_line.json").read_text()) == json.loads(
        json.dumps(_result())
    )
    assert Image.open(tmp_path / "main_line.png").width > 100


def test_a_part_that_was_not_measured_has_no_table() -> None:
    """A run of one part gives the tables of that part only."""
    result = _result()
    del result["parts"]["burst"], result["parts"]["throughput"]
    assert "A burst" not in markdown(result)
    assert "One small job" in markdown(result)


def test_a_figure_is_shown_in_its_own_unit() -> None:
    """Seconds are milliseconds when small, rates have no unit."""
    assert spread("total_s", 0.1, [0.05, 0.2]) == "100 ms (50.0 to 200)"
    assert spread("last_s", 12.0, [11.0, 13.0]) == "12.0 s (11.0 to 13.0)"
    assert spread("jobs_per_s", 120.4, [99.0, 130.0]) == "120 (99.0 to 130)"
