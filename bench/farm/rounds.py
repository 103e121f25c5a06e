"""Rounds: every side measured once, right after the other, in alternating order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.figures import compare, typical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.figures import Figures

Round = dict[str, "Figures"]


@dataclass(frozen=True, slots=True)
class Result:
    """The results of all rounds of one measurement, by side."""

    rounds: tuple[Round, ...]

    def json(self, *pairs: tuple[str, str]) -> dict[str, Any]:
        """Return medians by side, ratios for each (over, under), and every round."""
        contenders = list(self.rounds[0])
        return {
            "median": {side: typical([each[side] for each in self.rounds]) for side in contenders},
            "ratios": {f"{a}/{b}": compare(self.rounds, a, b) for a, b in pairs},
            "rounds": list(self.rounds),
        }


def play(
    repeats: int, turns: Mapping[str, Callable[[], Figures]], say: Callable[[str], None]
) -> Result:
    """Measure every side `repeats` times; the order alternates from round to round."""
    rounds: list[Round] = []
    for number in range(repeats):
        say(f"round {number + 1} of {repeats}")
        names = turned(list(turns), number)
        found = {name: turns[name]() for name in names}
        rounds.append({name: found[name] for name in turns})
    return Result(tuple(rounds))


def turned(names: Sequence[str], number: int) -> list[str]:
    """Return the names in the order of round `number`: forward, backward, forward."""
    return list(names) if number % 2 == 0 else list(reversed(names))
