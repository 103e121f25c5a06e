"""Table and plots of a run, made from its JSON only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.engine.devices import DEVICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

NAMES = {
    "serial": "one at a time",
    "threads": "a thread each",
    "window": "static window",
    "first-come": "first come, equal keys",
    "no-cap": "ours, no cap",
    "no-fewest-first": "ours, oldest first",
    "ours": "ours",
}
OTHERS = ("serial", "threads", "window", "first-come")
LEVEL = 1.02  # a difference of up to 2 % counts as equal
COLOURS = {
    "serial": "#8d99ae", "threads": "#bc6c25", "window": "#e9c46a", "first-come": "#e76f51",
    "no-cap": "#2a9d8f", "no-fewest-first": "#90be6d", "ours": "#264653",
}  # fmt: skip


def write(result: Mapping[str, Any], file: Path) -> None:
    """Write the table and a plot for each device next to the JSON file."""
    file.with_suffix(".md").write_text("\n".join(_text(result)) + "\n", encoding="utf-8")
    for name in DEVICES:
        runs = [run for run in result.get("device", []) if run["device"] == name]
        if runs:
            _plot(runs, f"Device model {name}: {DEVICES[name].about}", file, name)
    if "cpu" in result:
        _plot(result["cpu"]["runs"], "scenes on this machine's processor", file, "cpu")


def _commits(commits: Mapping[str, str]) -> str:
    """Return the commit of each part, or the common one."""
    if len(set(commits.values())) == 1:
        return next(iter(commits.values()))
    return ", ".join(f"{commit} ({part})" for part, commit in commits.items())


def _text(result: Mapping[str, Any]) -> Iterator[str]:
    machine = result["machine"]
    yield "# The engine's scheduling against the alternatives"
    yield ""
    yield (
        f"Made by `make bench-engine` at commit {_commits(result['commits'])} on {machine['cpu']}, "
        f"{machine['cores']} cores, load average {machine['load_average']}. The machine was shared "
        "with other heavy work, so only ratios within one table are meaningful."
    )
    yield ""
    yield from _legend()
    for name, device in DEVICES.items():
        runs = [run for run in result.get("device", []) if run["device"] == name]
        if runs:
            yield f"## Device model `{name}` (computed, not run on this device)"
            yield ""
            yield (
                f"{device.about}; T(rows) from published figures, see `bench/engine/devices.py`. "
                f"{result['device_jobs']} jobs per trace, {result['seeds']} seeds. These times do not "
                "include the engine's own overhead."
            )
            yield ""
            yield from _tables(runs)
    if "cpu" in result:
        yield from _cpu(result["cpu"])
    if "overhead" in result:
        yield from _overhead(result["overhead"])


def _legend() -> Iterator[str]:
    yield (
        "Load is the arrival rate over the rate that one at a time can serve. Jobs arrive at random "
        "(Poisson), one in four without guidance; in a `burst` all arrive at once (16 on device "
        "models). Seconds from a job's arrival to its picture. **Bold**: ours is more than 2 % behind "
        "the best of the four others (one at a time, a thread each, static window, first come with "
        "equal keys)."
    )
    yield ""


def _tables(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    behind = 0
    for figure, title in (("mean_s", "Mean"), ("p95_s", "95th percentile")):
        strategies = list(runs[0]["strategies"])
        yield f"| {title} | load | " + " | ".join(NAMES[strategy] for strategy in strategies) + " |"
        yield "|---|---|" + "---|" * len(strategies)
        for run in runs:
            best = min(run["strategies"][strategy][figure] for strategy in OTHERS)
            worse = run["strategies"]["ours"][figure] > LEVEL * best
            behind += worse
            cells = [f"{run['strategies'][strategy][figure]:.2f}" for strategy in strategies]
            if worse:
                cells[strategies.index("ours")] = f"**{cells[strategies.index('ours')]}**"
            yield f"| {run['mix']} | {run['load']} | " + " | ".join(cells) + " |"
        yield ""
    yield from _more(runs)
    yield f"Ours is ahead or equal in {2 * len(runs) - behind} of {2 * len(runs)} cells."
    yield ""


def _more(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the other figures of ours, one at a time and first come."""
    shown = ("serial", "first-come", "ours")
    yield (
        "| | load | "
        + " | ".join(f"p50 / p99 / images/s, {NAMES[strategy]}" for strategy in shown)
        + (" | first picture: one at a time / first come / ours |")
    )
    yield "|---|---|" + "---|" * (len(shown) + 1)
    for run in runs:
        strategies = run["strategies"]
        cells = [
            " / ".join(
                f"{strategies[strategy][name]:.2f}" for name in ("p50_s", "p99_s", "images_per_s")
            )
            for strategy in shown
        ]
        first = " / ".join(f"{strategies[strategy]['first_s']:.2f}" for strategy in shown)
        yield f"| {run['mix']} | {run['load']} | " + " | ".join(cells) + f" | {first} |"
    yield ""


def _cpu(cpu: Mapping[str, Any]) -> Iterator[str]:
    yield "## `scenes` on this machine's processor, in seconds of processor time"
    yield ""
    order = "; each trace begins with another strategy" if cpu.get("rotated") else ""
    worst = {
        strategy: max(run["strategies"][strategy]["distance"] for run in cpu["runs"])
        for strategy in NAMES
    }
    yield (
        f"{cpu['jobs']} jobs of {cpu['size']}x{cpu['size']} per trace, {cpu['seeds']} seeds; an unbatched "
        f"guided step takes {cpu['step_s'] * 1e3:.0f} ms; torch uses one thread. The strategies render "
        f"each trace in turn{order}. "
        "Largest difference of any pixel from one at a time, of 255: "
        + ", ".join(f"{NAMES[strategy]} {distance}" for strategy, distance in worst.items())
        + "."
    )
    yield ""
    yield from _tables(cpu["runs"])


def _overhead(overhead: Mapping[str, float]) -> Iterator[str]:
    yield "## The engine's overhead"
    yield ""
    yield (
        f"A single job (scenes, 128x128, 20 steps) takes {overhead['ratio']:.3f} times the processor "
        f"time of the bare pipeline (median of {overhead['rounds']:.0f} interleaved pairs). Python per "
        f"step of a job: {overhead['python_s_1'] * 1e3:.2f} ms for a single job, "
        f"{overhead['python_s_16'] * 1e3:.2f} ms with 16 jobs in a group."
    )
    yield ""


def _plot(runs: Sequence[Mapping[str, Any]], title: str, file: Path, name: str) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and only here

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mixes = list(dict.fromkeys(run["mix"] for run in runs))
    figure, axes = plt.subplots(2, len(mixes), figsize=(4.6 * len(mixes), 7), squeeze=False)
    for column, mix in enumerate(mixes):
        mine = [run for run in runs if run["mix"] == mix]
        for row, figure_name in enumerate(("mean_s", "p95_s")):
            axis = axes[row][column]
            for strategy in mine[0]["strategies"]:
                axis.plot(
                    [str(run["load"]) for run in mine],
                    [run["strategies"][strategy][figure_name] for run in mine],
                    label=NAMES[strategy], color=COLOURS[strategy], marker="o", markersize=3,
                    linewidth=2.4 if strategy == "ours" else 1.2,
                )  # fmt: skip
            axis.set_yscale("log")
            axis.set_title(f"steps {mix}: {'mean' if row == 0 else '95th percentile'}", fontsize=9)
            axis.set_xlabel("load")
            axis.set_ylabel("seconds")
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(file.with_name(f"{file.stem}-{name}.png"), dpi=100)
    plt.close(figure)
