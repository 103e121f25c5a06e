"""The model's card says what was measured: its figures are those of the kept results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
CARD = (ROOT / "models" / "scenes" / "README.md").read_text()
POINTS = ("background", "colour", "shape", "count", "position", "relation", "size", "all")


def results(name: str) -> dict[str, Any]:
    """Read one of the kept results."""
    found: dict[str, Any] = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())
    return found


def row(scored: dict[str, float]) -> str:
    """Write shares as the card's table does."""
    return " | ".join(f"{100 * scored[point]:.0f} %" for point in POINTS) + " |"


def test_the_tables_hold_what_was_measured() -> None:
    """The card shows the model's, the judge's and the turbo model's figures."""
    model, turbo = results("scenes"), results("scenes-turbo")
    two = next(run for run in turbo["runs"] if run["steps"] == 2)
    measured = {
        "| judge on true pictures | ": model["judge on truth"],
        "| judge after the autoencoder | ": model["judge on round trip"],
        "| the model | ": model["runs"][0],
        "| the model, combinations never trained on | ": model["runs"][0]["unseen"],
        f"| `scenes-turbo` in 2 steps ({turbo['prompts']} prompts) | ": two,
    }
    assert [name for name, scored in measured.items() if name + row(scored) not in CARD] == []
    assert f"on {model['prompts']} held-out prompts" in CARD


def test_the_other_settings_hold_what_was_measured() -> None:
    """Each setting of the sweep, in the order in which it was taken."""
    points = ("background", "colour", "shape", "count", "position", "all")
    for run in results("scenes")["runs"][1:]:
        name = f"| {run['scheduler']}, {run['steps']} steps, guidance {run['guidance']:g} | "
        shares = " | ".join(f"{100 * run[point]:.0f} %" for point in points)
        assert name + shares + " |" in CARD
        assert run["prompts"] == 100


def test_the_variants_have_the_effect_that_was_measured() -> None:
    """Turbo by its steps, the LoRA by what is filled, the ControlNet by the edges that are met."""
    for run in results("scenes-turbo")["runs"]:
        assert f"{100 * run['all']:.0f} % in {run['steps']}" in CARD
    effect = results("scenes-variants")
    for value in effect.values():
        assert f"{100 * value:.0f} %" in CARD.split("## Variants")[1]


def test_what_the_last_courses_were_worth_is_in_the_learning_curve() -> None:
    """Shapes by samples, for the courses whose end was measured on many prompts."""
    curve = (ROOT / "bench" / "results" / "scenes-learning.jsonl").read_text().splitlines()
    measured = [json.loads(line) for line in curve][-4:]
    rows = [f"| {round(p['samples'], -3):,} | {100 * p['shape']:.0f} % |" for p in measured]
    assert [row for row in rows if row not in CARD] == []


def test_the_plot_ends_with_what_was_measured() -> None:
    """The last point of the learning curve is the shipped weights' run."""
    last = (ROOT / "bench" / "results" / "scenes-learning.jsonl").read_text().splitlines()[-1]
    run = results("scenes")["runs"][0]
    assert {point: json.loads(last)[point] for point in POINTS} == {
        point: run[point] for point in POINTS
    }
