"""Every run, at full length and in the short form that `make test` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos import (
    r00_leader,
    r01_everything,
    r02_frozen,
    r03_forgetful,
    r04_cut,
    r05_hole,
    r07_database,
    r10_hang,
    r11_poison,
    r13_overload,
    r15_clocks,
    r16_states,
    r17_one_key,
    r18_day,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.report import Verdict

DECK = (
    "kill worker", "kill redis", "flushall", "kill postgres", "duplicate", "kill dispatcher",
    "freeze worker", "kill api", "reset", "half-open",
)  # fmt: skip
FULL: dict[str, Callable[[], Verdict]] = {
    "R0": r00_leader.run,
    "R1": r01_everything.run,
    "R2": r02_frozen.run,
    "R3": r03_forgetful.run,
    "R4": r04_cut.run,
    "R5": r05_hole.run,
    "R7": r07_database.run,
    "R10": r10_hang.run,
    "R11": r11_poison.run,
    "R13": r13_overload.run,
    "R15": r15_clocks.run,
    "R16": r16_states.run,
    "R17": r17_one_key.run,
}
NIGHTLY: dict[str, Callable[[], Verdict]] = {"R18": r18_day.run}
SHORT: dict[str, Callable[[], Verdict]] = {
    "R1": lambda: r01_everything.run(1000, deck=DECK, every_s=2.0, rate=50.0),
    "R2": lambda: r02_frozen.run(8),
    "R5": lambda: r05_hole.run(3),
    "R10": lambda: r10_hang.run(1),
    "R11": lambda: r11_poison.run(1, 99),
    "R16": lambda: r16_states.run(8),
    "R17": lambda: r17_one_key.run(2),
}
