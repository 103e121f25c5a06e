"""Building an engine from a registry entry."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.catalog.load import load_catalog
from app.config.repository import REPOSITORY
from app.errors import CatalogError
from workers.device.build import engine_of
from workers.engine.request import Finished, Request

if TYPE_CHECKING:
    from pathlib import Path

    from workers.device.runtime import Steps

ENTRY = """
[scenes]
path = "scenes"
[scenes.defaults]
width = 64
height = 64
[scenes.speed]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped model."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(REPOSITORY / "models" / "scenes", folder / "scenes")
    return folder


def built(folder: Path, speed: str = "", memory_mb: int = 0) -> Steps:
    """Build the engine of this registry, like a worker."""
    (folder / "models.toml").write_text(ENTRY + speed)
    return engine_of(load_catalog(folder / "models.toml"), 8, memory_mb)()


def render(engine: Steps, model: str = "scenes") -> np.ndarray:
    """Render one picture."""
    request = Request(
        id="a", model=model, prompt="a red circle on a blue background", width=64, height=64,
        num_inference_steps=4, guidance_scale=4.0, seed=7,
    )  # fmt: skip
    engine.add(request)
    while not engine.idle:
        for outcome in engine.step():
            assert isinstance(outcome, Finished), outcome
            return outcome.pixels[0]
    raise AssertionError("no outcome")


def test_speed_changes_no_more_than_rounding_does(folder: Path) -> None:
    """Channels last and tiling give the same picture, and the statistics name the batching."""
    plain = built(folder)
    assert plain.summary()["batching"] == {"scenes": "step"}
    assert not plain.summary()["forwards"]  # forwards of the start do not count
    tuned = built(folder, "channels_last = true\nvae_tiling = true\n")
    off = np.abs(render(plain).astype(int) - render(tuned).astype(int))
    assert off.max() <= 2


def test_models_that_do_not_fit_together_take_turns(folder: Path) -> None:
    """With memory for one of two models, a worker serves both, and their pictures are equal."""
    twin = ENTRY.replace("[scenes", "[twin")
    engine = built(folder, twin, memory_mb=70)
    pictures = [render(engine, name) for name in ("scenes", "twin", "scenes")]
    assert engine.summary()["resident"] == ["scenes"]
    assert all(np.abs(pictures[0].astype(int) - other).max() <= 1 for other in pictures)


def test_decoder_and_prompt_cache_are_settings_of_the_entry(folder: Path) -> None:
    """A missing decoder is refused; the model's own autoencoder as the decoder changes nothing."""
    with pytest.raises(CatalogError, match="decoder"):
        built(folder, 'decoder = "nowhere"\n')
    plain = built(folder)
    tuned = built(folder, 'decoder = "scenes/vae"\nprompt_cache_mb = 0\n')
    assert np.abs(render(plain).astype(int) - render(tuned)).max() <= 1
    for engine, hits in ((plain, 1), (tuned, 0)):
        render(engine)
        assert (engine.stats.cache_hits["encoder"] > 0) == bool(hits)  # type: ignore[attr-defined]
