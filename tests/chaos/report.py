"""What a run is held to, what came of it, and how that is written down."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a run must show: `figure` is what was seen, `bound` what was asked for."""

    name: str
    figure: Any
    bound: str
    held: bool


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that was seen to happen. `proof` says how."""

    at_s: float
    kind: str
    target: str
    proof: str


@dataclass(slots=True)
class Verdict:
    """One run: what it was held to, and the faults that fired meanwhile."""

    run: str
    about: str
    claims: list[Claim] = field(default_factory=list)
    faults: list[Fired] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every claim held, and there was one."""
        return bool(self.claims) and all(claim.held for claim in self.claims)

    @property
    def broken(self) -> list[str]:
        """The claims that did not hold, with their figures."""
        return [f"{c.name}: {c.figure} (asked: {c.bound})" for c in self.claims if not c.held]

    def equal(self, name: str, figure: Any, wanted: Any) -> None:
        """Claim that a figure is exactly this."""
        self.claims.append(Claim(name, figure, f"= {wanted}", figure == wanted))

    def most(self, name: str, figure: float, bound: float) -> None:
        """Claim that a figure is at most this."""
        self.claims.append(Claim(name, round(figure, 3), f"<= {bound:g}", figure <= bound))

    def least(self, name: str, figure: float, bound: float) -> None:
        """Claim that a figure is at least this."""
        self.claims.append(Claim(name, round(figure, 5), f">= {bound:g}", figure >= bound))

    def end(self) -> Verdict:
        """Stop its clock."""
        self.took_s = round(time.monotonic() - self.began, 1)
        return self


def write(folder: Path, verdicts: Sequence[Verdict], machine: dict[str, Any]) -> None:
    """Write the report beside the other results, for people and for programs."""
    runs = [asdict(v) | {"passed": v.passed} for v in verdicts]
    for run in runs:
        del run["began"]
    text = json.dumps({"machine": machine, "runs": runs}, indent=1, default=str)
    (folder / "chaos.json").write_text(text + "\n")
    (folder / "chaos.md").write_text(_page(verdicts, machine))


def _page(verdicts: Sequence[Verdict], machine: dict[str, Any]) -> str:
    lines = ["# The last chaos run", "", *(f"- {name}: {value}" for name, value in machine.items())]
    for v in verdicts:
        state = "passed" if v.passed else "**not passed**"
        said = f"{state}, {v.took_s:g} s, {len(v.faults)} faults seen to fire."
        lines += ["", f"## {v.run}: {v.about}", "", said, ""]
        lines += ["| claim | seen | asked | held |", "|---|---|---|---|"]
        lines += [
            f"| {c.name} | {c.figure} | {c.bound} | {'yes' if c.held else '**no**'} |"
            for c in v.claims
        ]
    return "\n".join(lines) + "\n"
