"""Rounds: every side measured once, one right after the other, in an order that turns about."""

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
    """What all rounds of one measurement gave, by side."""

    rounds: tuple[Round, ...]

    def json(self, *pairs: tuple[str, str]) -> dict[str, Any]:
        """Medians by side, ratios for each (over, under), and every round as it was."""
        contenders = list(self.rounds[0])
        return {
            "median": {side: typical([each[side] for each in self.rounds]) for side in contenders},
            "ratios": {f"{a}/{b}": compare(self.rounds, a, b) for a, b in pairs},
            "rounds": list(self.rounds),
        }


def play(
    repeats: int, turns: Mapping[str, Callable[[], Figures]], say: Callable[[str], None]
) -> Result:
    """Measure every side `repeats` times; who goes first changes from round to round."""
    rounds: list[Round] = []
    for number in range(repeats):
        say(f"round {number + 1} of {repeats}")
        names = turned(list(turns), number)
        found = {name: turns[name]() for name in names}
        rounds.append({name: found[name] for name in turns})
    return Result(tuple(rounds))


def turned(names: Sequence[str], number: int) -> list[str]:
    """The names in the order of round `number`: there, back, there again."""
    return list(names) if number % 2 == 0 else list(reversed(names))
