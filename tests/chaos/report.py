"""What a run is held to, what came of it, and how that is written down."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def write(folder: Path, verdict: Verdict, machine: dict[str, Any]) -> None:
    """Put a run in its place in the report, for people and for programs; the others stay."""
    file = folder / "chaos.json"
    runs: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    run = asdict(verdict) | {"passed": verdict.passed, "machine": machine}
    del run["began"]
    runs[verdict.run] = run
    runs = dict(sorted(runs.items(), key=lambda item: int(item[0][1:])))
    file.write_text(_lines(json.dumps(runs, indent=1, default=str)) + "\n")
    (folder / "chaos.md").write_text(_page(runs))


def _lines(text: str) -> str:
    """The same JSON, with each claim and each fault on a line of its own."""
    return re.sub(r"\{\n\s+([^{}]*?)\n\s+\}", lambda found: _line(found[1]), text)


def _line(members: str) -> str:
    return "{" + re.sub(r"\n\s+", " ", members) + "}"


def _page(runs: dict[str, Any]) -> str:
    about = "Made by `make chaos`. Bounds in seconds are for idle cores: see each load average."
    lines = ["# The last chaos runs", "", about]
    for run in runs.values():
        state = "Passed" if run["passed"] else "**Not passed**"
        machine, kinds = run["machine"], Counter(fault["kind"] for fault in run["faults"])
        fired = ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "none"
        where = f"{machine['cores']} cores, load average {machine['load_average'][0]}"
        said = f"{state} in {run['took_s']:g} s ({machine['commit']}; {where})."
        lines += ["", f"## {run['run']}: {run['about']}", ""]
        lines += [f"{said} Faults seen to fire: {fired}.", ""]
        lines += ["| claim | seen | asked | held |", "|---|---|---|---|"]
        lines += [
            f"| {c['name']} | {c['figure']} | {c['bound']} | {'yes' if c['held'] else '**no**'} |"
            for c in run["claims"]
        ]
    return "\n".join(lines) + "\n"
