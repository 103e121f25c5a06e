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
from bench.gpu import random_models, report, serving, steps
from bench.gpu.store import add, lock, set_aside_other_device
from bench.machine import commit

if TYPE_CHECKING:
    from bench.engine.real import Rig

FILE = REPOSITORY / "bench" / "results" / "gpu.json"
PARTS = ("device", "steps", "strategies", "alone", "exact", "latency")


def main(argv: list[str]) -> int:
    """Measure the parts, and write the table."""
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
            progress(f"{part} ...")
            parts[part](options)
    figures = json.loads(options.file.read_text())
    if "device" not in figures:
        progress("no table: measure the part `device` first")
        return 0
    report.write(figures, options.file)
    return 0


def progress(text: str) -> None:
    """Print a line of progress."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def _device(options: argparse.Namespace) -> None:
    """Measure the device's rate in one large matrix product."""
    side = steps.SIDE if options.scale is random_models.FULL else 256
    with lock(options.turn):
        rate = steps.matmul_flops(options.device, options.dtype, side)
    name = torch.cuda.get_device_name() if options.device != "cpu" else "cpu"
    about = {"name": name, "torch": torch.__version__, "matmul_flops": rate, "commit": commit()}
    set_aside_other_device(options.file, name)
    add(options.file, {"device": about})
    progress(f"{name}: {rate / 1e12:.0f} TFLOP/s")


def _steps(options: argparse.Namespace) -> None:
    """Measure T(rows) in one mode; all compilation is done before the device is locked."""
    denoiser = steps.Denoiser(options.model, options.device, options.dtype, options.scale)
    compiles = "compiled" in options.mode or "regional" in options.mode
    for size in () if compiles else options.sizes:
        add(options.file, {"flops": {options.model: {str(size): denoiser.flops(size)}}})
    denoiser.apply(options.mode)
    for size in options.sizes if compiles else ():
        for rows in options.rows:
            began = time.perf_counter()
            denoiser.module(**denoiser.inputs(size, rows))
            times_s = {str(rows): time.perf_counter() - began}
            add(options.file, {"compiled_s": {options.model: {str(size): {options.mode: times_s}}}})
            progress(f"{options.model} {size}, {rows} rows: compiled in {times_s[str(rows)]:.0f} s")
    for size in options.sizes:
        for graph in (False, True) if options.graphs and options.device != "cpu" else (False,):
            with lock(options.turn):
                figures = steps.times(denoiser, size, options.rows, graph=graph)
            mode = f"{options.mode}, graph" if graph else options.mode
            times = {"steps": {options.model: {str(size): {mode: _by_name(figures)}}}}
            add(options.file, times | {"commits": {f"{options.model} {size} {mode}": commit()}})
            progress(f"{options.model} {size} {mode}: " + _in_ms(figures))


def _strategies(options: argparse.Namespace) -> None:
    """Render traces under each strategy; each mix and load is stored at once."""
    rig = _build_rig(options, options.sizes[0])
    with lock(options.turn):
        serving.warm(rig)
        for mix in options.mixes:
            for load in options.loads:
                figures = serving.strategies(
                    rig, mix, load, jobs=options.jobs, seeds=options.seeds, progress=progress
                )
                about = {"size": options.sizes[0], "mix": mix, "load": load, "commit": commit()}
                add(options.file, {"strategies": {f"{mix} {load}": about | figures}})


def _alone(options: argparse.Namespace) -> None:
    """Measure the engine's overhead for a single job."""
    rig = _build_rig(options, options.sizes[0])
    for name, model in list(serving.variants(rig, options.device, options.dtype).items())[:2]:
        with lock(options.turn):
            figures = serving.single_job(rig, model)
        add(
            options.file, {"alone": {f"{options.sizes[0]}, {name}": figures | {"commit": commit()}}}
        )
        progress(f"one job through the engine / bare, {name}: {figures['ratio']:.3f}")


def _exact(options: argparse.Namespace) -> None:
    """Compare the bits of a reproducible job."""
    rig = _build_rig(options, options.sizes[0])
    for name, model in list(serving.variants(rig, options.device, options.dtype).items())[:2]:
        with lock(options.turn):
            figures = serving.exact(rig, model, options.among)
        add(
            options.file, {"exact": {f"{options.sizes[0]}, {name}": figures | {"commit": commit()}}}
        )
        progress(f"{name}: {figures}")


def _latency(options: argparse.Namespace) -> None:
    """Time requests of one and of four steps."""
    size = options.sizes[-1]
    rig = _build_rig(options, size)
    for name, model in serving.variants(rig, options.device, options.dtype).items():
        with lock(options.turn):
            figures = serving.latency(rig, model, (1, 4), options.rounds)
        add(options.file, {"latency": {f"{size}, {name}": figures | {"commit": commit()}}})
        progress(f"{size}, {name}: {figures}")


def _build_rig(options: argparse.Namespace, size: int) -> Rig:
    channels_last = options.mode == "channels_last"
    given = size, options.device, options.dtype, options.scale
    return serving.build_rig(*given, channels_last=channels_last)


def _by_name(figures: dict[int, float]) -> dict[str, float]:
    return {str(rows): time_s for rows, time_s in figures.items()}


def _in_ms(figures: dict[int, float]) -> str:
    return ", ".join(f"{rows} rows {time_s * 1e3:.1f} ms" for rows, time_s in figures.items())


def _part(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"there is no part {text!r}, only {', '.join(PARTS)}")
    return text


def _load(text: str) -> float | str:
    return text if text == "burst" else float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description="Measure full-size models with random weights on this machine's accelerator.",
    )
    known = f"{', '.join(PARTS)}; none: only make the table again"
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=known)
    parser.add_argument("--model", choices=("sdxl", "flux"), default="sdxl")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 768, 1024], help="pixels")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--mode", choices=steps.MODES, default="channels_last")
    parser.add_argument("--graphs", action="store_true", help="also measure replayed CUDA graphs")
    parser.add_argument("--mixes", nargs="+", default=["4-4-4-50", "uniform"])
    parser.add_argument("--loads", type=_load, nargs="+", default=[1.5, "burst"])
    parser.add_argument("--jobs", type=int, default=10, help="jobs of a trace")
    parser.add_argument("--seeds", type=int, default=2, help="traces of each mix and load")
    parser.add_argument("--among", type=int, default=20, help="mixes with other jobs")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--file", type=Path, default=FILE, help=f"default: {FILE}")
    parser.add_argument("--turn", type=Path, help="lock this file while measuring")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", type=lambda name: getattr(torch, name), default=torch.bfloat16)
    parser.add_argument(
        "--miniature", dest="scale", action="store_const", const=random_models.MINIATURE, default=random_models.FULL,
        help="tiny models, to try the program",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
