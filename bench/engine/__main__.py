"""`python -m bench.engine`: replay traces under each policy; write JSON, table and plots."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config.repository import REPOSITORY
from bench.engine import report
from bench.engine.devices import DEVICES
from bench.engine.measure import averaged, figures
from bench.engine.simulate import STRATEGIES
from bench.engine.traces import LOADS, MIXES, burst, poisson
from bench.machine import commit, machine, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.engine.devices import Device

RESULTS = REPOSITORY / "bench" / "results"
BURST_JOBS = 16
SEEDS = 12
"""Traces of each kind on a device model; a 95th percentile needs many jobs."""


def main(argv: list[str]) -> int:
    """Measure, write the results, and print the table."""
    arguments = _parser().parse_args(argv)
    file = arguments.results / "engine.json"
    result = json.loads(file.read_text()) if file.exists() else {}
    if not arguments.redraw:
        result |= {"machine": machine(), "versions": versions()}
        commits = dict.fromkeys(arguments.parts, commit())
        result["commits"] = result.get("commits", {}) | commits
        result["seeds"] = SEEDS
    if "device" in arguments.parts and not arguments.redraw:
        result["device_jobs"] = arguments.jobs
        result["device"] = list(on_devices(arguments.jobs))
    if "cpu" in arguments.parts and not arguments.redraw:
        from bench.engine import cpu  # noqa: PLC0415 - imports torch

        result["cpu"] = cpu.run(arguments.cpu_jobs, arguments.cpu_seeds, arguments.size, _progress)
    if "overhead" in arguments.parts and not arguments.redraw:
        from bench.engine import overhead  # noqa: PLC0415 - imports torch

        result["overhead"] = overhead.run(_progress)
    file.write_text(json.dumps(result, indent=1) + "\n")
    report.write(result, file)
    print(file.with_suffix(".md").read_text())
    return 0


def on_devices(jobs: int) -> Iterator[dict[str, Any]]:
    """Replay every mix at every load on every device model."""
    for device in DEVICES.values():
        for mix in MIXES:
            for load in LOADS:
                _progress(f"{device.name}, {mix}, load {load}")
                strategies = {
                    strategy: _seeds(device, mix, load, strategy, jobs) for strategy in STRATEGIES
                }
                yield {"device": device.name, "mix": mix, "load": load, "strategies": strategies}


def _seeds(
    device: Device, mix: str, load: float | str, strategy: str, jobs: int
) -> dict[str, float]:
    runs = []
    for seed in range(SEEDS):
        if isinstance(load, str):
            trace = burst(BURST_JOBS, mix, seed)
        else:
            trace = poisson(jobs, load, mix, seed, lambda ask: ask.steps * device.seconds(ask.rows))
        runs.append(figures(trace, STRATEGIES[strategy](trace, device.seconds)))
    return averaged(runs)


def _progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.engine",
        description="Replay traces of jobs under the engine's policy and under the alternatives, "
        "on device models in computed time and with the scenes model in processor time.",
    )
    parts = ("device", "cpu", "overhead")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--jobs", type=int, default=100, help="jobs of a trace on a device model")
    parser.add_argument("--cpu-jobs", type=int, default=12, help="jobs of a trace on this machine")
    parser.add_argument("--cpu-seeds", type=int, default=3)
    parser.add_argument(
        "--size", type=int, default=64, help="pixels of a picture's side on this machine"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    parser.add_argument(
        "--redraw", action="store_true", help="only make the table and the plots again"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
