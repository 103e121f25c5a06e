"""`python -m bench.gpu PART`: measure one part, and add its figures to the file."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from app.config.repository import REPOSITORY
from bench.gpu import big, report, serving, steps
from bench.gpu.store import add, begin, turn
from bench.machine import commit

if TYPE_CHECKING:
    from bench.engine.real import Rig

FILE = REPOSITORY / "bench" / "results" / "gpu.json"
PARTS = ("device", "steps", "strategies", "alone", "exact", "latency")


def main(argv: list[str]) -> int:
    """Measure, and print the results."""
    options = _parser().parse_args(argv)
    parts = {
        "device": _device,
        "steps": _steps,
        "strategies": _strategies,
        "alone": _alone,
        "exact": _exact,
        "latency": _latency,
    }
    with torch.no_grad():  # not for the whole process, which may be a test's
        for part in options.parts:
            say(f"{part} ...")
            parts[part](options)
    found = json.loads(options.file.read_text())
    if "device" not in found:
        say("the table is made once the part `device` was measured")
        return 0
    report.write(found, options.file)
    return 0


def say(text: str) -> None:
    """Print progress."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def _device(options: argparse.Namespace) -> None:
    """Return the device, and its rate in one large matrix product."""
    side = steps.SIDE if options.scale is big.FULL else 256
    with turn(options.turn):
        rate = steps.matmul_flops(options.device, options.dtype, side)
    name = torch.cuda.get_device_name() if options.device != "cpu" else "cpu"
    about = {"name": name, "torch": torch.__version__, "matmul_flops": rate, "commit": commit()}
    begin(options.file, name)
    add(options.file, {"device": about})
    say(f"{name}: {rate / 1e12:.0f} TFLOP/s")


def _steps(options: argparse.Namespace) -> None:
    """Measure T(rows) in one mode: everything is compiled before its turn."""
    denoiser = steps.Denoiser(options.model, options.device, options.dtype, options.scale)
    compiles = "compiled" in options.mode or "regional" in options.mode
    for size in () if compiles else options.sizes:
        add(options.file, {"flops": {options.model: {str(size): denoiser.flops(size)}}})
    denoiser.apply(options.mode)
    for size in options.sizes if compiles else ():
        for rows in options.rows:
            began = time.perf_counter()
            denoiser.module(**denoiser.inputs(size, rows))
            took = {str(rows): time.perf_counter() - began}
            add(options.file, {"compiled_s": {options.model: {str(size): {options.mode: took}}}})
            say(f"{options.model} {size}, {rows} rows: compiled in {took[str(rows)]:.0f} s")
    for size in options.sizes:
        for graph in (False, True) if options.graphs and options.device != "cpu" else (False,):
            with turn(options.turn):
                found = steps.times(denoiser, size, options.rows, graph=graph)
            mode = f"{options.mode}, graph" if graph else options.mode
            times = {"steps": {options.model: {str(size): {mode: _by_name(found)}}}}
            add(options.file, times | {"commits": {f"{options.model} {size} {mode}": commit()}})
            say(f"{options.model} {size} {mode}: " + _in_ms(found))


def _strategies(options: argparse.Namespace) -> None:
    """Run the engine's strategies on traces; each result is stored as soon as it is rendered."""
    here = _stage(options, options.sizes[0])
    with turn(options.turn):
        serving.warm(here)
        for mix in options.mixes:
            for load in options.loads:
                found = serving.strategies(
                    here, mix, load, jobs=options.jobs, seeds=options.seeds, say=say
                )
                about = {"size": options.sizes[0], "mix": mix, "load": load, "commit": commit()}
                add(options.file, {"strategies": {f"{mix} {load}": about | found}})


def _alone(options: argparse.Namespace) -> None:
    """Measure the engine's cost for one job."""
    here = _stage(options, options.sizes[0])
    for name, model in list(serving.variants(here, options.device, options.dtype).items())[:2]:
        with turn(options.turn):
            found = serving.alone(here, model)
        add(options.file, {"alone": {f"{options.sizes[0]}, {name}": found | {"commit": commit()}}})
        say(f"one job through the engine / bare, {name}: {found['ratio']:.3f}")


def _exact(options: argparse.Namespace) -> None:
    """Measure the bits of a reproducible job."""
    here = _stage(options, options.sizes[0])
    for name, model in list(serving.variants(here, options.device, options.dtype).items())[:2]:
        with turn(options.turn):
            found = serving.exact(here, model, options.among)
        add(options.file, {"exact": {f"{options.sizes[0]}, {name}": found | {"commit": commit()}}})
        say(f"{name}: {found}")


def _latency(options: argparse.Namespace) -> None:
    """Time one request of one and of four steps."""
    size = options.sizes[-1]
    here = _stage(options, size)
    for name, model in serving.variants(here, options.device, options.dtype).items():
        with turn(options.turn):
            found = serving.latency(here, model, (1, 4), options.rounds)
        add(options.file, {"latency": {f"{size}, {name}": found | {"commit": commit()}}})
        say(f"{size}, {name}: {found}")


def _stage(options: argparse.Namespace, size: int) -> Rig:
    channels_last = options.mode == "channels_last"
    given = size, options.device, options.dtype, options.scale
    return serving.stage(*given, channels_last=channels_last)


def _by_name(found: dict[int, float]) -> dict[str, float]:
    return {str(rows): time_s for rows, time_s in found.items()}


def _in_ms(found: dict[int, float]) -> str:
    return ", ".join(f"{rows} rows {time_s * 1e3:.1f} ms" for rows, time_s in found.items())


def _part(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"there is no {text!r}, but: {', '.join(PARTS)}")
    return text


def _load(text: str) -> float | str:
    return text if text == "burst" else float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description="Measure models of full size with random weights on the accelerator at hand.",
    )
    known = f"{', '.join(PARTS)}; none: only write the table again"
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=known)
    parser.add_argument("--model", choices=("sdxl", "flux"), default="sdxl")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 768, 1024], help="pixels")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--mode", choices=steps.MODES, default="channels_last")
    parser.add_argument("--graphs", action="store_true", help="replayed CUDA graphs as well")
    parser.add_argument("--mixes", nargs="+", default=["4-4-4-50", "uniform"])
    parser.add_argument("--loads", type=_load, nargs="+", default=[1.5, "burst"])
    parser.add_argument("--jobs", type=int, default=10, help="of a trace")
    parser.add_argument("--seeds", type=int, default=2, help="traces of a mix and a load")
    parser.add_argument("--among", type=int, default=20, help="mixes with strangers")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--file", type=Path, default=FILE, help=f"default: {FILE}")
    parser.add_argument("--turn", type=Path, help="measure only while holding this lock file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", type=lambda name: getattr(torch, name), default=torch.bfloat16)
    parser.add_argument(
        "--miniature", dest="scale", action="store_const", const=big.MINIATURE, default=big.FULL,
        help="tiny models: to try the program",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
