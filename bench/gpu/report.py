"""Table of the figures of an accelerator, made from their JSON only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.engine.report import LEVEL, NAMES, OTHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

TITLES = {
    "sdxl": "The UNet of SDXL (2.6 B parameters)",
    "flux": "The transformer of Flux (11.9 B parameters)",
}
MODES = {
    "channels_last": "eager, channels last",
    "channels_last, graph": "channels last, CUDA graph",
    "eager, graph": "CUDA graph",
    "compiled": "whole compiled",
    "compiled, graph": "whole compiled, CUDA graph",
    "channels_last regional": "channels last, blocks compiled",
    "channels_last regional, graph": "channels last, blocks compiled, CUDA graph",
    "regional": "blocks compiled",
    "regional, graph": "blocks compiled, CUDA graph",
}
TARGET_S = 0.2


def write(figures: Mapping[str, Any], file: Path) -> None:
    """Write the table next to the JSON file."""
    file.with_suffix(".md").write_text("\n".join(_text(figures)) + "\n", encoding="utf-8")


def _text(figures: Mapping[str, Any]) -> Iterator[str]:
    device = figures["device"]
    yield f"# Full-size models on one {device['name']}"
    yield ""
    yield (
        f"Made by `python -m bench.gpu` at commit {device['commit']} with torch {device['torch']}, bf16, "
        "random weights, because the cost of a forward depends on shapes and number formats only. The "
        "device is in a virtual machine with 16 cores, where launching a kernel takes a "
        "long and varying time: eager forwards of few rows wait for the launches, not for the device, and their times "
        "vary as well. Replays are not affected. One matrix product of 8192 x 8192 runs at "
        f"{device['matmul_flops'] / 1e12:.0f} TFLOP/s on this device. T(rows) are medians of five."
    )
    yield ""
    for kind, sizes in figures.get("steps", {}).items():
        flops = figures.get("flops", {}).get(kind, {})
        yield from _steps(kind, sizes, flops, device["matmul_flops"])
    entries = {name: {"commit": commit} for name, commit in figures.get("commits", {}).items()}
    for remark in _remarks(entries, device["commit"]):
        yield remark
        yield ""
    sections = {
        "compiled_s": _compiling, "latency": _latency, "alone": _alone, "strategies": _strategies, "exact": _exact,
    }  # fmt: skip
    for part, section in sections.items():
        if figures.get(part):
            yield from section(figures[part])
            about = figures.get("about", {}).get(part, "")
            for remark in filter(None, (about, *_remarks(figures[part], device["commit"]))):
                yield remark
                yield ""


def _remarks(figures: Mapping[str, Any], commit: str) -> Iterator[str]:
    """Yield the entries' own remarks, and the commits of entries from another commit."""
    for name, entry in figures.items():
        if about := entry.get("about"):
            yield f"`{name}`: {about}"
        if entry.get("commit", commit) != commit:
            yield f"`{name}` was measured at commit {entry['commit']} (`+`: with uncommitted changes)."


def _steps(
    kind: str, sizes: Mapping[str, Any], flops: Mapping[str, float], rate: float
) -> Iterator[str]:
    rows = sorted({int(n) for modes in sizes.values() for times in modes.values() for n in times})
    yield f"## {TITLES[kind]}: T(rows)"
    yield ""
    yield (
        "Milliseconds of one forward, and in brackets its share of the matrix product's rate, by the "
        "operations that torch counts."
    )
    yield ""
    yield "| size | how | " + " | ".join(f"{n} row{'s' * (n > 1)}" for n in rows) + " |"
    yield "|---|---|" + "---|" * len(rows)
    for size, modes in sorted(sizes.items(), key=lambda pair: int(pair[0])):
        for mode, times in modes.items():
            cells = [_cell(times.get(str(n)), n * flops.get(size, 0.0) / rate) for n in rows]
            yield f"| {size} | {MODES.get(mode, mode)} | " + " | ".join(cells) + " |"
    yield ""


def _compiling(figures: Mapping[str, Any]) -> Iterator[str]:
    rows = sorted({int(n) for _, _, _, times in _modes(figures) for n in times})
    yield "## Compilation times"
    yield ""
    yield "Seconds of the first forward of each number of rows."
    yield ""
    yield "| | size | how | " + " | ".join(f"{n} row{'s' * (n > 1)}" for n in rows) + " |"
    yield "|---|---|---|" + "---|" * len(rows)
    for kind, size, mode, times in _modes(figures):
        cells = [f"{times[str(n)]:.0f}" if str(n) in times else "" for n in rows]
        yield f"| {kind} | {size} | {MODES.get(mode, mode)} | {' | '.join(cells)} |"
    yield ""


def _modes(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, float]]]:
    """Yield kind, size, mode and times by rows."""
    for kind, sizes in figures.items():
        for size, modes in sorted(sizes.items(), key=lambda pair: int(pair[0])):
            for mode, times in modes.items():
                yield kind, size, mode, times


def _cell(time_s: float | None, least_s: float) -> str:
    return "" if time_s is None else f"{time_s * 1e3:.1f} ({100 * least_s / time_s:.0f} %)"


def _latency(figures: Mapping[str, Any]) -> Iterator[str]:
    yield f"## One request of SDXL's size against {TARGET_S * 1e3:.0f} ms"
    yield ""
    yield (
        "Through the engine, without guidance, with a new prompt each time: from the prompt to the pixels "
        "in the host's memory, and the encoding on one core (random weights draw noise, the worst case "
        "for PNG and WebP). Milliseconds, medians of the rounds. CUDA graphs were captured before."
    )
    yield ""
    yield "| size, decoder | 1 step | 4 steps | JPEG | WebP | PNG | 1 step to JPEG | 4 steps to JPEG |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, times in figures.items():
        ms = {key: 1e3 * times[key] for key in times if key.endswith("_s")}
        ends = [ms[f"{steps}_steps_s"] + ms["jpeg_s"] for steps in (1, 4)]
        met = [f"**{end:.0f}**" if end <= 1e3 * TARGET_S else f"{end:.0f}" for end in ends]
        yield (
            f"| {name} | {ms['1_steps_s']:.0f} | {ms['4_steps_s']:.0f} | {ms['jpeg_s']:.0f} | {ms['webp_s']:.0f} "
            f"| {ms['png_s']:.0f} | {' | '.join(met)} |"
        )
    yield ""


def _alone(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## The engine's overhead for a single job"
    yield ""
    for name, times in figures.items():
        yield (
            f"- {name}: {times['ratio']:.3f} times the bare pipeline's {times['bare_s'] * 1e3:.0f} ms "
            f"for {times['steps']} guided steps (median of {times['rounds']} pairs; the engine caches the "
            "encoded prompt, the bare pipeline encodes it again)."
        )
    yield ""


def _strategies(figures: Mapping[str, Any]) -> Iterator[str]:
    runs = list(figures.values())
    names = NAMES | {"graphs": "ours, CUDA graphs"}
    steps_s = [round(pick(run["step_s"] for run in runs) * 1e3) for pick in (min, max)]
    furthest = max(
        strategy.get("distance", 0) for run in runs for strategy in run["strategies"].values()
    )
    yield f"## The strategies of the engine's benchmark, {runs[0]['size']} x {runs[0]['size']}"
    yield ""
    yield (
        f"Seconds on the wall clock; one unbatched guided step took {steps_s[0]} to {steps_s[1]} ms. All "
        "strategies but the last launch kernel by kernel. The last one captured its forwards of these "
        "sizes before; each new size takes the time of about four forwards. The engine's strategies "
        "encode each of the four prompts once, the others encode them for each job. Largest difference "
        f"of any pixel from one at a time, of 255, in bf16: {furthest}. **Bold**: ours is more than 2 % "
        "behind the best of the four others."
    )
    yield ""
    for figure, title, best in (
        ("mean_s", "Mean", min), ("p95_s", "95th percentile", min),
        ("images_per_s", "Pictures per second", max),
    ):  # fmt: skip
        yield f"| {title} | load | traces x jobs | " + " | ".join(names.values()) + " |"
        yield "|---|---|---|" + "---|" * len(names)
        for run in runs:
            times = {
                strategy: figures[figure]
                for strategy, figures in run["strategies"].items()
                if figure in figures
            }
            if times:
                cells = [_strategy_cell(strategy, times, best) for strategy in names]
                traces = run.get("traces", run["seeds"])
                yield (
                    f"| {run['mix']} | {run['load']} | {traces} x {run['jobs']} | "
                    f"{' | '.join(cells)} |"
                )
        yield ""


def _strategy_cell(strategy: str, figures: Mapping[str, float], best: Callable[..., float]) -> str:
    if strategy not in figures:
        return ""
    ours, rival = figures["ours"], best(figures[other] for other in OTHERS)
    level = max(ours, rival) <= LEVEL * min(ours, rival)
    behind = strategy == "ours" and not level and best(ours, rival) == rival
    return f"**{figures[strategy]:.2f}**" if behind else f"{figures[strategy]:.2f}"


def _exact(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## Bits of a reproducible job"
    yield ""
    for name, entry in figures.items():
        resumed = "the same bits" if entry["resumed_same_bits"] else "other bits"
        yield (
            f"- {name}: the same bits in {entry['same_bits']} of {entry['mixes']} mixes with other jobs; "
            f"drained half-way and resumed: {resumed}. Without the flag the largest difference of a pixel "
            f"is {entry['furthest_without_the_flag']} of 255."
        )
    yield ""
