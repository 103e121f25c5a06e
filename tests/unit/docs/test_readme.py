"""The README is short, and its figures are those of the kept results."""

from __future__ import annotations

import json
import re

from app.config.repository import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
RESULTS = REPOSITORY / "bench" / "results"
SCREEN_LINES = 50
FIGURES = README.split("## Four figures")[1].split("\n## ")[0]


def row(page: str, section: str, label: str) -> list[str]:
    """The cells of one row of a results page."""
    part = (RESULTS / page).read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    (line,) = re.findall(rf"^\| {re.escape(label)} \|.*$", part, re.MULTILINE)
    return [cell.strip(" *") for cell in line.strip("|").split("|")]


def test_it_fits_two_screens() -> None:
    """The README has at most two screens of fifty lines."""
    assert len(README.splitlines()) <= 2 * SCREEN_LINES


def test_it_has_four_figures_with_their_sources() -> None:
    """Each figure's row links to a file of results that exists."""
    links = re.findall(r"\]\((bench/results/[^)]+)\)", FIGURES)
    assert len(links) == 4
    assert all((REPOSITORY / link).is_file() for link in links)


def test_the_faults_are_those_of_the_last_run() -> None:
    """Jobs, faults and losses are the claims of the kept chaos run R1."""
    claims = json.loads((RESULTS / "chaos.json").read_text())["R1"]["claims"]
    found = {claim["name"]: claim["figure"] for claim in claims}
    assert found["jobs lost"] == found["jobs without exactly one end"] == 0
    assert f"of {found['jobs that succeeded']:,}" in FIGURES
    assert f"under {found['faults that fired']} faults" in FIGURES


def test_the_comparison_is_that_of_the_benchmark() -> None:
    """Burst, latency and throughput are the medians of the kept benchmark."""
    burst = row("main_line.md", "A burst", "images/s")
    assert f"{burst[-1]} times" in FIGURES
    (whole_ms,) = re.findall(
        r"^([\d.]+) ms", row("main_line.md", "One small job, nothing to render", "whole, median")[1]
    )
    assert f"| {float(whole_ms):.0f} ms |" in FIGURES
    ended = row("main_line.md", "Jobs per second", "jobs/s, until all had ended")
    assert f"ends {float(ended[1].split()[0]):.0f} jobs per second" in README
    assert float(ended[-2]) < 0.35  # "a third of what a hand-made Celery app does"


def test_the_gpu_figures_are_those_of_the_gpu() -> None:
    """One and four steps to a JPEG are the kept figures of the H200."""
    cells = row(
        "gpu.md", "One request of SDXL's size against 200 ms", "1024, small decoder, graphs"
    )
    assert f"{cells[-2]} ms for 1 step, {cells[-1]} ms for 4" in FIGURES
