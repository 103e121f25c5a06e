"""Previews: the expected picture of a job in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from app.config.repository import REPOSITORY
from tests.unit.workers.engine.reference import engine_of, picture, request, run_until_idle
from workers.engine.request import Finished
from workers.pipelines.loading import load
from workers.pipelines.preview import LONGEST, Colours

if TYPE_CHECKING:
    from workers.engine.engine import Engine
    from workers.engine.model import Preview
    from workers.engine.request import Request
    from workers.pipelines.model import LoadedModel


@pytest.fixture(scope="module")
def scenes() -> dict[str, LoadedModel]:
    """Return the repository's own model, whose autoencoder is trained."""
    return {"scenes": load(REPOSITORY / "models" / "scenes", name="scenes")}


def last_preview(engine: Engine, asked: Request) -> tuple[Preview, Finished]:
    """Render, with a preview after each step; return the last preview and the outcome."""
    engine.add(asked)
    last = None
    while not engine.idle:
        outcomes = engine.step()
        last = engine.previews([asked.id]).get(asked.id, last)
    (finished,) = outcomes
    assert isinstance(finished, Finished), finished
    assert last is not None
    return last, finished


def averages(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return the mean of each block of pixels."""
    height, width = pixels.shape[0] // side, pixels.shape[1] // side
    means: np.ndarray = pixels.reshape(height, side, width, side, 3).mean(axis=(1, 3))
    return means


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two small pictures, 1 for equal ones."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "euler_a", "ddim", "heun", "unipc", "lcm"])
def test_the_last_preview_resembles_the_picture(
    scheduler: str, scenes: dict[str, LoadedModel]
) -> None:
    """At the last step the preview is close to the block means of the picture."""
    asked = request(
        "a", "scenes", prompt="a red circle on a blue background", width=128, height=96,
        num_inference_steps=6, scheduler=scheduler,
    )  # fmt: skip
    last, finished = last_preview(engine_of(scenes), asked)
    expected = averages(finished.pixels[0], 8)
    assert last.step == 6
    assert last.pixels.shape == expected.shape == (12, 16, 3)
    assert np.abs(last.pixels - expected).mean() < 24
    assert correlation(last.pixels, expected) > 0.9
    assert correlation(last.pixels, expected[..., ::-1]) < 0.5


def test_early_previews_show_the_expected_picture_not_the_noise(
    scenes: dict[str, LoadedModel],
) -> None:
    """After half of the steps the preview has the picture's colours in their places."""
    engine = engine_of(scenes)
    engine.add(
        request("a", "scenes", prompt="a red circle on a blue background", width=128, height=128,
                num_inference_steps=8, scheduler="euler_a")
    )  # fmt: skip
    while engine.progress()["a"][0] < 4:
        engine.step()
    previews = engine.previews(["a", "nobody"])
    assert set(previews) == {"a"}
    finished = run_until_idle(engine)["a"]
    assert isinstance(finished, Finished)
    expected = averages(finished.pixels[0], 8)
    assert correlation(previews["a"].pixels, expected) > 0.8


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_the_last_expected_latents_are_the_pipelines_own(
    family: str, models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every family the expected latents at the last step are those that the pipeline decodes."""
    scheduler = None if family in ("sd3", "flux") else "euler"
    painted, decoded = [], []

    def spy(_: Colours, latents: torch.Tensor) -> Any:
        painted.append(latents)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(Colours, "paint", spy)
    vae = models[family].view(request("x", family)).pipeline.vae._module
    handle = vae.decoder.register_forward_pre_hook(lambda _, args: decoded.append(args[0]))
    through = vae.post_quant_conv.register_forward_pre_hook(
        lambda _, args: decoded.insert(0, args[0])
    )
    try:
        asked = request("a", family, width=24, height=16, num_images=2, scheduler=scheduler)
        last_preview(engine_of(models), asked)
    finally:
        handle.remove()
        through.remove()
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    expected = (decoded[0][0] - shift) * vae.config.scaling_factor
    assert painted[-1].shape == expected.shape
    assert torch.allclose(painted[-1], expected, atol=1e-3), (painted[-1] - expected).abs().max()


def test_image_to_image_and_inpainting_have_previews(
    models: dict[str, LoadedModel],
) -> None:
    """All families have previews for these tasks."""
    mask = picture(2, "L")
    for family in models:
        for fields in ({"strength": 0.6}, {"strength": 0.9, "mask": mask}):
            asked = request("a", family, image=picture(1), **fields)
            last, _ = last_preview(engine_of(models), asked)
            assert last.pixels.shape == (8, 8, 3)


def test_a_job_before_its_first_step_has_no_preview(models: dict[str, LoadedModel]) -> None:
    """A waiting job and a job that encodes its prompt have none."""
    engine = engine_of(models)
    engine.add(request("a"))
    assert engine.previews(["a"]) == {}
    engine.step()
    assert engine.previews(["a"]) == {}


def test_a_large_picture_has_a_small_preview() -> None:
    """The longer side of a preview is bounded, with the same aspect ratio."""
    colours = Colours(torch.zeros(5, 3))
    assert colours.paint(torch.zeros(4, 256, 128)).shape == (LONGEST, LONGEST // 2, 3)


def test_an_autoencoder_of_another_kind_has_no_previews() -> None:
    """A module that cannot encode pictures gives no colours, without an error."""
    assert Colours.fit(torch.nn.Linear(2, 2), 8) is None
