"""The programs that measure on an accelerator, in miniature and on the processor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from bench.gpu import big, report, serving, steps
from bench.gpu.__main__ import FILE, main
from bench.gpu.store import add, begin

if TYPE_CHECKING:
    from pathlib import Path

    from bench.engine.real import Rig


@pytest.fixture(scope="module")
def here() -> Rig:
    """Give a tiny SDXL with random weights."""
    return serving.stage(64, "cpu", torch.float32, big.MINIATURE, channels_last=True)


def test_figures_come_beside_those_that_are_there(tmp_path: Path) -> None:
    """Tables are merged to the bottom; what is measured again replaces what was."""
    file = tmp_path / "new" / "gpu.json"
    add(file, {"steps": {"sdxl": {"512": {"eager": {"1": 2.0}}}}, "device": {"name": "one"}})
    add(file, {"steps": {"sdxl": {"512": {"graph": {"1": 1.0}}}}, "device": {"name": "two"}})
    assert json.loads(file.read_text()) == {
        "steps": {"sdxl": {"512": {"eager": {"1": 2.0}, "graph": {"1": 1.0}}}},
        "device": {"name": "two"},
    }


def test_figures_of_another_device_are_put_aside(tmp_path: Path) -> None:
    """One file, one device: the others keep theirs under their names."""
    file = tmp_path / "gpu.json"
    begin(file, "NVIDIA L4")
    add(file, {"device": {"name": "NVIDIA L4"}, "steps": {}})
    begin(file, "NVIDIA L4")
    assert file.exists()
    begin(file, "NVIDIA H200")
    assert [kept.name for kept in tmp_path.glob("*.json")] == ["gpu-nvidia-l4.json"]


def test_the_table_is_made_of_the_figures(tmp_path: Path) -> None:
    """The one in the repository is what its JSON gives."""
    copy = tmp_path / "gpu.json"
    report.write(json.loads(FILE.read_text()), copy)
    assert copy.with_suffix(".md").read_text() == FILE.with_suffix(".md").read_text()


@pytest.mark.parametrize("kind", ["sdxl", "flux"])
def test_a_denoiser_takes_the_inputs_that_are_made_for_it(kind: str) -> None:
    """Rows are timed, and counted operations grow with the size."""
    denoiser = steps.Denoiser(kind, "cpu", torch.float32, big.MINIATURE)
    with torch.no_grad():
        found = steps.times(denoiser, 64, (1, 2), graph=False)
    assert set(found) == {1, 2}
    assert min(found.values()) > 0
    assert denoiser.flops(256) > denoiser.flops(64) > 0


def test_every_arm_draws_the_same_pictures(here: Rig) -> None:
    """Every strategy's pictures are within 1 of 255 of those made one at a time."""
    found = serving.strategies(here, "4-4-4-50", "burst", jobs=2, seeds=1, say=lambda _: None)
    assert max(strategy["distance"] for strategy in found["strategies"].values()) <= 1


def test_a_reproducible_job_is_compared_bit_by_bit(here: Rig) -> None:
    """Among strangers, and resumed."""
    with torch.no_grad():
        found = serving.exact(here, here.model, 2)
    assert found["same_bits"] == found["mixes"] == 2
    assert found["resumed_same_bits"]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With what there is."""
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "there is no 'speed', but: device, steps" in capsys.readouterr().err


def test_a_part_that_is_measured_stands_in_the_table(tmp_path: Path) -> None:
    """From the command line on, every number of rows with its time."""
    file = tmp_path / "gpu.json"
    given = "--miniature --device cpu --dtype float32 --mode eager --sizes 64 --rows 1 2"
    assert main(["device", "steps", *given.split(), "--file", str(file)]) == 0
    found = json.loads(file.read_text())
    assert set(found["steps"]["sdxl"]["64"]["eager"]) == {"1", "2"}
    assert "| 64 | eager | " in file.with_suffix(".md").read_text()
    found["commits"]["sdxl 64 eager"] = "another"
    report.write(found, file)
    assert "`sdxl 64 eager` is of commit another" in file.with_suffix(".md").read_text()
