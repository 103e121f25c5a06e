"""`python -m bench`: measure the farm next to the hand-made app."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from app.config.repository import REPOSITORY
from bench.errors import BenchError
from bench.farm import main_line
from bench.farm.plan import PARTS, Plan
from bench.farm.rig import environment_without_farm

RESULTS = REPOSITORY / "bench" / "results"


def main(argv: list[str]) -> int:
    """Measure, write the results, and print where they are."""
    arguments = _parser().parse_args(argv)
    if arguments.redraw:
        print(main_line.draw(arguments.results / f"{main_line.NAME}.json"))
        return 0
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # both signals end the run with a clean-up
    environment_without_farm()
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {text}", file=sys.stderr, flush=True)

    try:
        table = main_line.run(_plan(arguments), arguments.parts, arguments.results, say)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped, nothing was written", file=sys.stderr)
        return 130
    print(table.read_text(encoding="utf-8"))
    print(f"Written to {table.with_suffix('')}.{{json,md,png}}", file=sys.stderr)
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = Plan().quick() if arguments.quick else Plan()
    return replace(plan, repeats=arguments.repeats) if arguments.repeats else plan


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the farm next to a hand-made Celery app: latency, jobs/s, a burst. "
        "Everything runs on the loopback address and is cleared away at the end.",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="what to measure; default: all",
    )
    parser.add_argument("--quick", action="store_true", help="few jobs: to see that it works")
    parser.add_argument("--repeats", type=int, help="rounds; default: 5, quick: 2")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"folder; default: {RESULTS}")
    parser.add_argument(
        "--redraw", action="store_true", help="only write table and plot again, from the JSON"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
