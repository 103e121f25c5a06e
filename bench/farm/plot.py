"""The plot of a run, made from its JSON only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.farm.report import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

OVERHEADS = {
    "accept_s": "call until stored",
    "queued_s": "until a worker has it",
    "store_s": "storing",
    "other_s": "the worker's rest",
    "answer_s": "until the client knows",
}
SHADES = ("#264653", "#2a9d8f", "#e9c46a", "#f4a261", "#e76f51")
COLOURS = {"farm": "#2a9d8f", "handmade": "#8d99ae", "farm_batch": "#264653"}


def save(result: Mapping[str, Any], file: Path) -> None:
    """Draw the measurements, one panel each, as a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and only here

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = _panels(result["parts"])
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.2), squeeze=False)
    for draw, axis in zip(panels, axes[0], strict=True):
        draw(axis)
        axis.spines[["top", "right"]].set_visible(False)
    machine = result["machine"]
    about = f"{machine['cpu']}, {machine['cores']} cores; commit {result['commit']}"
    figure.suptitle(f"Renderfarm next to a hand-made Celery app\n{about}", fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _panels(parts: Mapping[str, Any]) -> list[Callable[[Any], None]]:
    found: list[Callable[[Any], None]] = []
    if latency := parts.get("latency"):
        found.append(lambda axis: _overheads(axis, latency))
    if throughput := parts.get("throughput"):
        found.append(lambda axis: _bars(axis, throughput, "jobs_per_s", "null jobs/s"))
    if burst := parts.get("burst"):
        found.append(lambda axis: _bars(axis, burst, "images_per_s", "burst: images/s"))
        found.append(lambda axis: _bars(axis, burst, "mean_latency_s", "burst: mean latency, s"))
    return found


def _overheads(axis: Any, latency: Mapping[str, Any]) -> None:
    """Draw what one job takes in addition to rendering, part by part."""
    labels, bottoms = [], []
    for model, found in latency.items():
        for side, median in found["median"].items():
            labels.append(f"{NAMES[side]}\n{model}")
            bottoms.append({part: 1000 * median[part] for part in OVERHEADS})
    heights = [0.0] * len(labels)
    for (part, text), shade in zip(OVERHEADS.items(), SHADES, strict=True):
        values = [each[part] for each in bottoms]
        axis.bar(labels, values, bottom=heights, label=text, color=shade)
        heights = [height + value for height, value in zip(heights, values, strict=True)]
    axis.set_title("one job, all but rendering, ms", fontsize=9)
    axis.tick_params(labelsize=7)
    axis.set_ylim(top=1.5 * max(heights))  # room for the legend
    axis.legend(fontsize=7, frameon=False, ncols=2, loc="upper center")


def _bars(axis: Any, found: Mapping[str, Any], figure: str, title: str) -> None:
    """Draw the medians, with a line from the lowest to the highest value."""
    contenders = list(found["median"])
    for side in contenders:
        median = found["median"][side][figure]
        seen = [each[side][figure] for each in found["rounds"]]
        error = [[median - min(seen)], [max(seen) - median]]
        bars = axis.bar(NAMES[side].replace(", ", "\n"), median, color=COLOURS[side],
                        yerr=error, capsize=4)  # fmt: skip
        axis.bar_label(bars, fmt="%.3g", label_type="center", color="white", fontsize=9)
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=8)
