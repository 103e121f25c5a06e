"""The report of a chaos run: its claims with their figures, and the faults that fired."""

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
    """One claim of a run: `figure` is the measurement, `bound` its limit, and `held` the result."""

    name: str
    figure: Any
    bound: str
    held: bool


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that fired, `at_s` seconds after the start. `proof` says how that was observed."""

    at_s: float
    kind: str
    target: str
    proof: str


@dataclass(slots=True)
class Verdict:
    """The result of one run: its claims, and the faults that fired."""

    run: str
    about: str
    claims: list[Claim] = field(default_factory=list)
    faults: list[Fired] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether there is a claim and every claim held."""
        return bool(self.claims) and all(claim.held for claim in self.claims)

    @property
    def broken(self) -> list[str]:
        """The claims that did not hold, with their figures."""
        return [f"{c.name}: {c.figure} (bound: {c.bound})" for c in self.claims if not c.held]

    def equal(self, name: str, figure: Any, wanted: Any) -> None:
        """Claim that a figure equals `wanted`."""
        self.claims.append(Claim(name, figure, f"= {wanted}", figure == wanted))

    def most(self, name: str, figure: float, bound: float) -> None:
        """Claim that a figure is at most `bound`."""
        self.claims.append(Claim(name, round(figure, 3), f"<= {bound:g}", figure <= bound))

    def least(self, name: str, figure: float, bound: float) -> None:
        """Claim that a figure is at least `bound`."""
        self.claims.append(Claim(name, round(figure, 5), f">= {bound:g}", figure >= bound))

    def end(self) -> Verdict:
        """Stop the clock of the run, and return the verdict."""
        self.took_s = round(time.monotonic() - self.began, 1)
        return self


def write(folder: Path, verdict: Verdict, machine: dict[str, Any]) -> None:
    """Write a run into the report, as JSON and Markdown; other runs keep their results."""
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
        host = f"{machine['cores']} cores, load average {machine['load_average'][0]}"
        summary = f"{state} in {run['took_s']:g} s ({machine['commit']}; {host})."
        lines += ["", f"## {run['run']}: {run['about']}", ""]
        lines += [f"{summary} Faults that fired: {fired}.", ""]
        lines += ["| claim | figure | bound | held |", "|---|---|---|---|"]
        lines += [
            f"| {c['name']} | {c['figure']} | {c['bound']} | {'yes' if c['held'] else '**no**'} |"
            for c in run["claims"]
        ]
    return "\n".join(lines) + "\n"
