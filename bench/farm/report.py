"""The Markdown page of a run, made from its JSON only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Line = tuple[str, str]  # the label, and the name of its figure
NAMES = {
    "farm": "Renderfarm",
    "handmade": "hand-made",
    "farm_batch": "Renderfarm, batch call",
}
LATENCY: Sequence[Line] = (
    ("whole, median", "total_s"),
    ("whole, 95th percentile", "total_p95_s"),
    ("without rendering, median", "overhead_s"),
    ("without rendering, 95th percentile", "overhead_p95_s"),
    ("whole / rendering", "times_render"),
    ("call until the row is stored", "accept_s"),
    ("until a worker has it (`queued_s`)", "queued_s"),
    ("rendering (`render_s`)", "render_s"),
    ("storing (`store_s`)", "store_s"),
    ("the worker's rest", "other_s"),
    ("finished row until the client knows", "answer_s"),
    ("the submitting call (overlaps)", "submit_s"),
)
THROUGHPUT: Sequence[Line] = (
    ("jobs/s, until all had ended", "jobs_per_s"),
    ("jobs/s, until all were accepted", "accepted_per_s"),
    ("processor time per job, all processes", "cpu_per_job_s"),
    ("a submitting call, median", "call_p50_s"),
    ("a submitting call, 95th percentile", "call_p95_s"),
)
BURST: Sequence[Line] = (
    ("images/s", "images_per_s"),
    ("mean latency", "mean_latency_s"),
    ("first picture", "first_s"),
    ("95th percentile", "p95_latency_s"),
    ("last picture", "last_s"),
    ("processor time per picture, all processes", "cpu_per_image_s"),
    ("rows per denoiser forward", "rows_per_forward"),
    ("jobs per denoiser forward", "jobs_per_forward"),
)


@dataclass(frozen=True, slots=True)
class Section:
    """One table: its title, a sentence on the measurement, its lines and contenders."""

    title: str
    text: str
    lines: Sequence[Line]
    contenders: Sequence[str]
    found: Mapping[str, Any]


def markdown(result: Mapping[str, Any]) -> str:
    """Return the whole page."""
    pieces = [_head(result), *(_section(section) for section in sections(result))]
    return "\n".join(pieces)


def sections(result: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the tables of the measured parts."""
    parts, plan = result["parts"], result["settings"]
    both = ("farm", "handmade")
    if found := parts.get("latency"):
        for model, what in (
            ("null", "nothing to render"),
            ("scenes", f"{plan['latency_steps']} steps"),
        ):
            text = f"{plan['latency_jobs']} jobs a round and side, one at a time."
            lines = [line for line in LATENCY if model != "null" or line[1] != "times_render"]
            yield Section(f"One small job, {what}", text, lines, both, found[model])
    if found := parts.get("throughput"):
        text = (
            f"{plan['throughput_jobs']} jobs with nothing to render, handed in from "
            f"{plan['client_threads']} threads with a call each, or all in one batch call."
        )
        yield Section("Jobs per second", text, THROUGHPUT, (*both, "farm_batch"), found)
    if found := parts.get("burst"):
        steps = ", ".join(str(steps) for steps in plan["burst_steps"])
        text = (
            f"{plan['burst_jobs']} pictures of {steps} steps in turn, handed in at once. "
            "The two contenders' pictures differ by at most "
            f"{found['largest_pixel_difference_of_255']} of 255."
        )
        yield Section("A burst", text, BURST, both, found)


def _head(result: Mapping[str, Any]) -> str:
    machine, plan, model = result["machine"], result["settings"], result["model"]
    weights = "random weights of its size" if model["stand_in"] else f"revision {model['revision']}"
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"""# The main job next to a hand-made Celery app

Made by `python -m bench` from `main_line.json`; do not edit. Medians of {plan["repeats"]} rounds;
in brackets the least and the most. Ratios are taken within each round, then their median.

- Measured {result["measured_at"]}, commit `{result["commit"]}`, in {result["took_s"]:.0f} s
- {machine["cpu"]}, {machine["cores"]} cores, {machine["memory"]}, {machine["system"]},
  torch threads: {machine["torch_threads"]}; load average at the start {machine["load_average"][0]}
- Model `{model["name"]}`, {weights}
- {versions}
"""


def _section(section: Section) -> str:
    names = [NAMES[side] for side in section.contenders]
    pairs = [f"{side}/handmade" for side in section.contenders if side != "handmade"]
    head = ["", *names, *(f"{NAMES[pair.split('/')[0]]} / hand-made" for pair in pairs)]
    rows = [_row(section, pairs, line) for line in section.lines]
    body = "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
    return f"## {section.title}\n\n{section.text}\n\n{body}\n"


def _row(section: Section, pairs: Sequence[str], line: Line) -> list[str]:
    label, figure = line
    cells = []
    for side in section.contenders:
        seen = [each[side][figure] for each in section.found["rounds"] if figure in each[side]]
        median = section.found["median"][side].get(figure)
        cells.append("" if median is None else spread(figure, median, seen))
    shown = [section.found["ratios"][pair].get(figure) for pair in pairs]
    return [label, *cells, *("" if each is None else f"{each['median']:.2f}" for each in shown)]


def spread(figure: str, median: float, seen: Sequence[float]) -> str:
    """Format a median with the lowest and the highest value, in the unit that reads best."""
    factor, unit = (1000.0, " ms") if figure.endswith("_s") and not _rate(figure) else (1.0, "")
    if unit and max(seen) >= 10:
        factor, unit = 1.0, " s"
    low, high = (number(value * factor) for value in (min(seen), max(seen)))
    return f"{number(median * factor)}{unit} ({low} to {high})"


def number(value: float) -> str:
    """Format with three significant digits."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _rate(figure: str) -> bool:
    return figure.endswith("_per_s")
