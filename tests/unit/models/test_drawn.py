"""The decoder's last lessons: what the denoiser draws, beside what it should have drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.scenes import drawn as module
from models.scenes.autoencoder import SPREAD
from models.scenes.drawn import drawn
from models.scenes.evaluate import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what was drawn is kept."""
    return tmp_path_factory.mktemp("drawn") / "drawn.pt"


def test_what_is_kept_shows_what_was_meant(file: Path) -> None:
    """Nearly all averages of a kept picture's latents are near those of the true picture."""
    found = drawn(load(), 8, seed=1, file=file)
    assert found is not None
    latents, pictures = found
    assert latents.shape[1:] == (4, 16, 16)
    assert pictures.shape[1:] == (3, 128, 128)
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    averages = torch.nn.functional.avg_pool2d(pictures, 8) / 2 / SPREAD
    off = (latents[:, :3] - averages).abs().amax(1) > module.FAR
    assert off.float().mean() <= module.WRONG


def test_it_is_drawn_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the file there nothing is drawn again."""
    monkeypatch.setattr(module, "_draw", None)
    again = drawn(load(), 8, seed=1, file=file)
    assert again is not None
    assert len(again[0]) == len(again[1])


def test_a_denoiser_that_knows_nothing_teaches_nothing(tmp_path: Path) -> None:
    """If no picture is recognisable there are no lessons."""
    pipeline = load()
    for parameter in pipeline.unet.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    assert drawn(pipeline, 2, seed=1, file=tmp_path / "drawn.pt") is None
