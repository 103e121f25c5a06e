"""bench.gpu in miniature, on the processor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from bench.gpu import random_models, report, serving, steps
from bench.gpu.__main__ import FILE, main
from bench.gpu.store import add, set_aside_other_device

if TYPE_CHECKING:
    from pathlib import Path

    from bench.engine.real import Rig


@pytest.fixture(scope="module")
def rig() -> Rig:
    """Return the rig of a tiny SDXL with random weights."""
    return serving.build_rig(64, "cpu", torch.float32, random_models.MINIATURE, channels_last=True)


def test_figures_are_merged_into_the_file(tmp_path: Path) -> None:
    """Nested tables are merged; a figure that is measured again replaces the old one."""
    file = tmp_path / "new" / "gpu.json"
    add(file, {"steps": {"sdxl": {"512": {"eager": {"1": 2.0}}}}, "device": {"name": "one"}})
    add(file, {"steps": {"sdxl": {"512": {"graph": {"1": 1.0}}}}, "device": {"name": "two"}})
    assert json.loads(file.read_text()) == {
        "steps": {"sdxl": {"512": {"eager": {"1": 2.0}, "graph": {"1": 1.0}}}},
        "device": {"name": "two"},
    }


def test_figures_of_another_device_are_set_aside(tmp_path: Path) -> None:
    """A file holds one device; the figures of another device move to a file with its name."""
    file = tmp_path / "gpu.json"
    set_aside_other_device(file, "NVIDIA L4")
    add(file, {"device": {"name": "NVIDIA L4"}, "steps": {}})
    set_aside_other_device(file, "NVIDIA L4")
    assert file.exists()
    set_aside_other_device(file, "NVIDIA H200")
    assert [path.name for path in tmp_path.glob("*.json")] == ["gpu-nvidia-l4.json"]


def test_the_table_matches_the_figures(tmp_path: Path) -> None:
    """The table in the repository is the one that its JSON file gives."""
    copy = tmp_path / "gpu.json"
    report.write(json.loads(FILE.read_text()), copy)
    assert copy.with_suffix(".md").read_text() == FILE.with_suffix(".md").read_text()


@pytest.mark.parametrize("kind", ["sdxl", "flux"])
def test_a_denoiser_takes_its_inputs(kind: str) -> None:
    """Each number of rows has a time, and the counted operations grow with the size."""
    denoiser = steps.Denoiser(kind, "cpu", torch.float32, random_models.MINIATURE)
    with torch.no_grad():
        times = steps.times(denoiser, 64, (1, 2), graph=False)
    assert set(times) == {1, 2}
    assert min(times.values()) > 0
    assert denoiser.flops(256) > denoiser.flops(64) > 0


def test_every_strategy_draws_the_same_pictures(rig: Rig) -> None:
    """The pictures of every strategy are within 1 of 255 of those of one at a time."""
    figures = serving.strategies(rig, "4-4-4-50", "burst", jobs=2, seeds=1, progress=lambda _: None)
    assert max(strategy["distance"] for strategy in figures["strategies"].values()) <= 1


def test_a_reproducible_job_is_compared_bit_by_bit(rig: Rig) -> None:
    """Its bits stay the same among other jobs and after a resume."""
    with torch.no_grad():
        figures = serving.exact(rig, rig.model, 2)
    assert figures["same_bits"] == figures["mixes"] == 2
    assert figures["resumed_same_bits"]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The error message lists the parts."""
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "there is no part 'speed', only device, steps" in capsys.readouterr().err


def test_a_measured_part_is_in_the_table(tmp_path: Path) -> None:
    """The command line measures every number of rows and writes the table."""
    file = tmp_path / "gpu.json"
    options = "--miniature --device cpu --dtype float32 --mode eager --sizes 64 --rows 1 2"
    assert main(["device", "steps", *options.split(), "--file", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert set(figures["steps"]["sdxl"]["64"]["eager"]) == {"1", "2"}
    assert "| 64 | eager | " in file.with_suffix(".md").read_text()
    figures["commits"]["sdxl 64 eager"] = "another"
    report.write(figures, file)
    assert "`sdxl 64 eager` was measured at commit another" in file.with_suffix(".md").read_text()
