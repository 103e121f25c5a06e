"""The table of what was measured on an accelerator, made from its JSON alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.engine.report import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TITLES = {
    "sdxl": "The UNet of SDXL (2.6 B parameters)",
    "flux": "The transformer of Flux (11.9 B parameters)",
}
MODES = {
    "channels_last": "eager, channels last",
    "channels_last, graph": "channels last, CUDA graph",
    "eager, graph": "CUDA graph",
    "compiled, graph": "compiled, CUDA graph",
    "channels_last regional": "channels last, blocks compiled",
    "channels_last regional, graph": "channels last, blocks compiled, CUDA graph",
    "regional": "blocks compiled",
    "regional, graph": "blocks compiled, CUDA graph",
}
TARGET_S = 0.2


def write(found: Mapping[str, Any], file: Path) -> None:
    """Write the table beside the JSON."""
    file.with_suffix(".md").write_text("\n".join(_text(found)) + "\n", encoding="utf-8")


def _text(found: Mapping[str, Any]) -> Iterator[str]:
    device = found["device"]
    yield f"# Models of full size on one {device['name']}"
    yield ""
    yield (
        f"Made by `python -m bench.gpu` with torch {device['torch']}, bf16, random weights: what a forward costs depends "
        "on shapes and number formats alone. The device is in a virtual machine with 16 cores, where launching a kernel "
        f"is slow; programs that compiled beside it made that slower still, so what is eager may be quicker than it says. One "
        f"matrix product of 8192 x 8192 runs at {device['matmul_flops'] / 1e12:.0f} TFLOP/s there. T(rows) "
        "are medians of five."
    )
    yield ""
    for kind, sizes in found.get("steps", {}).items():
        flops = found.get("flops", {}).get(kind, {})
        yield from _steps(kind, sizes, flops, device["matmul_flops"])
    yield from _latency(found.get("latency", {}))
    yield from _alone(found.get("alone", {}))
    yield from _arms(found.get("arms", {}))
    yield from _exact(found.get("exact", {}))


def _steps(
    kind: str, sizes: Mapping[str, Any], flops: Mapping[str, float], rate: float
) -> Iterator[str]:
    rows = sorted({int(n) for modes in sizes.values() for times in modes.values() for n in times})
    yield f"## {TITLES[kind]}: T(rows)"
    yield ""
    yield (
        "Milliseconds of one forward, and in brackets what share of the matrix product's rate it reaches, by the "
        "operations that torch counts in it."
    )
    yield ""
    yield "| size | how | " + " | ".join(f"{n} row{'s' * (n > 1)}" for n in rows) + " |"
    yield "|---|---|" + "---|" * len(rows)
    for size, modes in sorted(sizes.items(), key=lambda pair: int(pair[0])):
        for mode, times in modes.items():
            cells = [_cell(times.get(str(n)), n * flops.get(size, 0.0) / rate) for n in rows]
            yield f"| {size} | {MODES.get(mode, mode)} | " + " | ".join(cells) + " |"
    yield ""


def _cell(time_s: float | None, least_s: float) -> str:
    return "" if time_s is None else f"{time_s * 1e3:.1f} ({100 * least_s / time_s:.0f} %)"


def _latency(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield f"## One request of SDXL's size against {TARGET_S * 1e3:.0f} ms"
    yield ""
    yield (
        "No guidance, a new prompt each time, through the engine: from the prompt to the pixels in the host's memory, and "
        "what encoding them takes on one core (random weights draw noise, the worst case for PNG and WebP). Milliseconds, "
        "medians of the rounds. What is recorded was recorded before." + _remembered(found)
    )
    yield ""
    yield "| size, decoder | 1 step | 4 steps | JPEG | WebP | PNG | 1 step to JPEG | 4 steps to JPEG |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, times in found.items():
        ms = {key: 1e3 * value for key, value in times.items()}
        ends = [ms[f"{steps}_steps_s"] + ms["jpeg_s"] for steps in (1, 4)]
        met = [f"**{end:.0f}**" if end <= 1e3 * TARGET_S else f"{end:.0f}" for end in ends]
        yield (
            f"| {name} | {ms['1_steps_s']:.0f} | {ms['4_steps_s']:.0f} | {ms['jpeg_s']:.0f} | {ms['webp_s']:.0f} "
            f"| {ms['png_s']:.0f} | {' | '.join(met)} |"
        )
    yield ""


def _remembered(found: Mapping[str, Any]) -> str:
    if not any(times.get("4_steps_remembered") for times in found.values()):
        return ""
    return (
        " The prompts of the four steps were those of the one step, so that their encoding was remembered: add what the text "
        "encoders take."
    )


def _alone(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield "## What the engine costs one job"
    yield ""
    for name, times in found.items():
        yield (
            f"- {name}: {times['ratio']:.3f} times the bare pipeline's {times['bare_s'] * 1e3:.0f} ms for {times['steps']} "
            f"guided steps (median of {times['rounds']} pairs; the engine remembers the encoded prompt, the bare "
            "pipeline encodes it again)."
        )
    yield ""


def _arms(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    first = next(iter(found.values()))
    names = NAMES | {"graphs": "ours, CUDA graphs"}
    arms = [arm for arm in names if arm in first["arms"]]
    yield f"## The arms of the engine's benchmark, {first['size']} x {first['size']}"
    yield ""
    yield (
        f"{first['jobs']} jobs a trace, {first['seeds']} seed{'s' * (first['seeds'] > 1)}, seconds of the time of day; one guided step alone takes about "
        f"{first['step_s'] * 1e3:.0f} ms. All arms launch kernel by kernel but the last, whose forwards of these sizes were "
        "recorded before: each that is new costs about four. The engine's arms encode each of the four prompts once, the others "
        f"encode them for each job. Largest difference of any pixel from "
        f"one at a time, of 255, in bf16: {max(a['distance'] for run in found.values() for a in run['arms'].values())}."
    )
    yield ""
    for figure, title in (
        ("mean_s", "Mean"), ("p95_s", "95th percentile"), ("images_per_s", "Pictures a second"),
    ):  # fmt: skip
        yield f"| {title} | load | " + " | ".join(names[arm] for arm in arms) + " |"
        yield "|---|---|" + "---|" * len(arms)
        for run in found.values():
            cells = [f"{run['arms'][arm][figure]:.2f}" for arm in arms]
            yield f"| {run['mix']} | {run['load']} | " + " | ".join(cells) + " |"
        yield ""


def _exact(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield "## Bits of a reproducible job"
    yield ""
    for name, seen in found.items():
        resumed = "the same bits" if seen["resumed_same_bits"] else "other bits"
        yield (
            f"- {name}: the same bits in {seen['same_bits']} of {seen['mixes']} mixes with strangers; drained half-way and "
            f"resumed: {resumed}. Without the flag no pixel is further off than {seen['furthest_without_the_flag']} of 255."
        )
        if about := seen.get("about"):
            yield f"  {about}"
    yield ""
