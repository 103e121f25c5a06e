"""The short forms of the chaos runs. At full length: `make chaos`.

They are held to everything that the full runs are, but for seconds: how busy the machine is decides
those, so they are judged where they are measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import (
    r01_everything,
    r02_frozen,
    r05_hole,
    r10_hang,
    r11_poison,
    r16_states,
    r17_one_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.report import Verdict

DECK = (
    "kill worker", "kill redis", "flushall", "kill postgres", "duplicate", "kill dispatcher",
    "freeze worker", "kill api", "reset", "half-open",
)  # fmt: skip
RUNS: dict[str, Callable[[], Verdict]] = {
    "R1": lambda: r01_everything.run(1000, deck=DECK, every_s=2.0, rate=50.0),
    "R2": lambda: r02_frozen.run(8),
    "R5": lambda: r05_hole.run(3),
    "R10": lambda: r10_hang.run(1),
    "R11": lambda: r11_poison.run(1, 99),
    "R16": lambda: r16_states.run(10),
    "R17": lambda: r17_one_key.run(2),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", RUNS)
def test_what_the_farm_promises_holds_under(run: str) -> None:
    """No job lost, none ended twice, one whole image set each, and an audit without a problem."""
    verdict = RUNS[run]()
    assert verdict.faults or run == "R17", "no fault fired"
    assert [each for each in verdict.broken if "seconds" not in each] == []
