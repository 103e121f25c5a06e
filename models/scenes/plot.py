"""Plot loss and accuracy over samples: `python -m models.scenes.plot LOSS ACCURACY PICTURE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

POINTS = ("background", "colour", "shape", "count", "position", "relation", "all")


def read(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a log, one JSON object each."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def plot(losses: list[dict[str, Any]], measured: list[dict[str, Any]], picture: Path) -> None:
    """Draw the loss above the accuracy at some checkpoints, over the same samples."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.semilogy([line["samples"] for line in losses], [line["loss"] for line in losses])
    above.set_ylabel("loss")
    for point in POINTS:
        found = [(line["samples"], line[point]) for line in measured if point in line]
        below.plot(*zip(*found, strict=True), marker="o", label=point)
    below.set(xlabel="samples seen", ylabel="share of prompts", ylim=(0, 1.02))
    below.legend(ncols=4, fontsize=8)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    loss_log, accuracy_log, target = map(Path, sys.argv[1:])
    plot(read(loss_log), read(accuracy_log), target)
