"""Chaos engineering: `python -m tests.chaos [R1 R5 ...]` does runs at full length.

The report is in bench/results; runs that are not named keep their results in it. R18, which takes
half an hour, runs only if it is named.
"""
# ruff: noqa: T201 - a program that reports

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from app.config.repository import REPOSITORY
from bench.machine import commit, machine
from tests.chaos.report import Verdict, write
from tests.chaos.runs import FULL, NIGHTLY, SHORT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = REPOSITORY / "bench" / "results"


def main(argv: Sequence[str]) -> int:
    """Do the named runs, or all of them, one after another."""
    arguments = _arguments(argv)
    level = logging.INFO if arguments.verbose else logging.ERROR
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    known = SHORT if arguments.short else FULL | NIGHTLY
    passed = True
    for name in arguments.runs or (SHORT if arguments.short else FULL):
        verdict = _run(name, known[name])
        passed &= verdict.passed
        write(arguments.out, verdict, {"commit": commit(), **machine()})
    return 0 if passed else 1


def _run(name: str, run: Callable[[], Verdict]) -> Verdict:
    print(f"{name} ...", flush=True)
    try:
        verdict = run()
    except Exception as error:  # noqa: BLE001 - the other runs go on
        verdict = Verdict(name, "ended with an error")
        verdict.equal("error", f"{type(error).__name__}: {error}", None)
    state = "passed" if verdict.passed else "NOT PASSED"
    print(f"{name} {state} in {verdict.took_s:g} s", flush=True)
    for claim in verdict.claims:
        print(f"    {'ok ' if claim.held else 'NOT'} {claim.name}: {claim.figure} ({claim.bound})")
    sys.stdout.flush()
    return verdict


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("runs", nargs="*", choices=[*FULL, *NIGHTLY, []], help="all if none")
    parser.add_argument("--short", action="store_true", help="as in `make test`")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--verbose", action="store_true", help="log each fault as it fires")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
