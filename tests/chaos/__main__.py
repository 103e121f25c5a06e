"""The chaos runs at full length: `python -m tests.chaos [R1 R5 ...]`; keeps the report in bench/results.

Runs that are not asked for keep the place that they have in the report.
"""
# ruff: noqa: T201 - a program that reports

from __future__ import annotations

import argparse
import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from app.settings import REPOSITORY
from bench.machine import commit, machine
from tests.chaos.report import write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.report import Verdict

RUNS = {
    "R1": "r01_everything",
    "R2": "r02_frozen",
    "R5": "r05_hole",
    "R10": "r10_hang",
    "R11": "r11_poison",
    "R16": "r16_states",
    "R17": "r17_one_key",
}
RESULTS = REPOSITORY / "bench" / "results"


def main(argv: Sequence[str]) -> int:
    """Do the runs that are asked for, one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("runs", nargs="*", help=f"some of {', '.join(RUNS)}; all if none is named")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--verbose", action="store_true", help="log each fault as it fires")
    arguments = parser.parse_args(argv)
    level = logging.INFO if arguments.verbose else logging.ERROR
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    passed = True
    for name in arguments.runs or RUNS:
        verdict = _run(name)
        passed &= verdict.passed
        write(arguments.out, verdict, {"commit": commit(), **machine()})
    return 0 if passed else 1


def _run(name: str) -> Verdict:
    print(f"{name} ...", flush=True)
    verdict: Verdict = import_module(f"tests.chaos.{RUNS[name]}").run()
    print(
        f"{name} {'passed' if verdict.passed else 'NOT PASSED'} in {verdict.took_s:g} s", flush=True
    )
    for claim in verdict.claims:
        print(f"    {'ok ' if claim.held else 'NOT'} {claim.name}: {claim.figure} ({claim.bound})")
    return verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
