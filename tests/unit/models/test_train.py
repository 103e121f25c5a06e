"""The training program runs from nothing to a folder that stock diffusers loads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models.scenes import train
from models.scenes.evaluate import Setting, load, sample


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model made by the shortest preset."""
    folder = tmp_path_factory.mktemp("scenes")
    run(folder, "--out", str(folder / "model"))
    return folder


def run(folder: Path, *options: str) -> None:
    """Call the program as from the command line."""
    with pytest.MonkeyPatch.context() as patch:
        given = ["train", "--preset", "smoke", "--work", str(folder / "work"), *options]
        patch.setattr(sys, "argv", given)
        train.main()


def test_what_it_writes_is_a_stock_pipeline(made: Path):
    """The folder loads in fp32 and draws a picture of 128 x 128."""
    assert sample(load(made / "model"), ["a red circle"], Setting(steps=2)).shape[1:] == (
        128,
        128,
        3,
    )


def test_a_second_run_has_nothing_left_to_do(made: Path, capsys: pytest.CaptureFixture[str]):
    """Started again on finished checkpoints it only exports, to the same bytes."""
    weights = made / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    run(made, "--out", str(made / "model"))
    assert weights.read_bytes() == before
    assert "written to" in capsys.readouterr().out


def test_a_shipped_model_can_be_taught_further(made: Path, tmp_path: Path):
    """`--start` goes on from an exported folder and leaves its words alone."""
    run(tmp_path, "--start", str(made / "model"), "--out", str(tmp_path / "model"))
    words = Path("text_encoder") / "model.safetensors"
    weights = Path("unet") / "diffusion_pytorch_model.safetensors"
    old, new = made / "model", tmp_path / "model"
    assert (new / words).read_bytes() == (old / words).read_bytes()
    assert (new / weights).read_bytes() != (old / weights).read_bytes()
