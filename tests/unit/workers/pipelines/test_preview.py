"""Previews: what a job under way is going to look like."""

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
    """The model that ships, whose autoencoder has learned something."""
    return {"scenes": load(REPOSITORY / "models" / "scenes", name="scenes")}


def last_preview(engine: Engine, asked: Request) -> tuple[Preview, Finished]:
    """Render, looking after each step; the last preview and the picture."""
    engine.add(asked)
    seen = None
    while not engine.idle:
        outcomes = engine.step()
        seen = engine.previews([asked.id]).get(asked.id, seen)
    (finished,) = outcomes
    assert isinstance(finished, Finished), finished
    assert seen is not None
    return seen, finished


def averages(pixels: np.ndarray, side: int) -> np.ndarray:
    """The picture at one pixel for each block."""
    height, width = pixels.shape[0] // side, pixels.shape[1] // side
    return pixels.reshape(height, side, width, side, 3).mean(axis=(1, 3))


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of two small pictures: 1 for the same."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "euler_a", "ddim", "heun", "unipc", "lcm"])
def test_the_last_preview_resembles_the_picture(
    scheduler: str, scenes: dict[str, LoadedModel]
) -> None:
    """At the last step the preview is close to the picture's block averages, and to no other's."""
    asked = request(
        "a", "scenes", prompt="a red circle on a blue background", width=128, height=96,
        num_inference_steps=6, scheduler=scheduler,
    )  # fmt: skip
    seen, finished = last_preview(engine_of(scenes), asked)
    wanted = averages(finished.pixels[0], 8)
    assert seen.step == 6
    assert seen.pixels.shape == wanted.shape == (12, 16, 3)
    assert np.abs(seen.pixels - wanted).mean() < 24
    assert alike(seen.pixels, wanted) > 0.9
    assert alike(seen.pixels, wanted[..., ::-1]) < 0.5


def test_early_previews_show_what_is_expected_not_the_noise(
    scenes: dict[str, LoadedModel],
) -> None:
    """Half of the way there, the preview has the picture's colours in their places."""
    engine = engine_of(scenes)
    engine.add(
        request("a", "scenes", prompt="a red circle on a blue background", width=128, height=128,
                num_inference_steps=8, scheduler="euler_a")
    )  # fmt: skip
    while engine.progress()["a"][0] < 4:
        engine.step()
    seen = engine.previews(["a", "nobody"])
    assert set(seen) == {"a"}
    finished = run_until_idle(engine)["a"]
    assert isinstance(finished, Finished)
    wanted = averages(finished.pixels[0], 8)
    assert alike(seen["a"].pixels, wanted) > 0.8


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_the_expected_latents_end_as_the_pipelines_own(
    family: str, models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every family the expectation at the last step is what the pipeline decodes."""
    scheduler = None if family in ("sd3", "flux") else "euler"
    painted, decoded = [], []

    def note(_: Colours, latents: torch.Tensor) -> Any:
        painted.append(latents)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(Colours, "paint", note)
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
    wanted = (decoded[0][0] - shift) * vae.config.scaling_factor
    assert painted[-1].shape == wanted.shape
    assert torch.allclose(painted[-1], wanted, atol=1e-3), (painted[-1] - wanted).abs().max()


def test_kinds_of_work_that_start_from_pictures_have_previews(
    models: dict[str, LoadedModel],
) -> None:
    """Image-to-image and inpainting are seen too."""
    mask = picture(2, "L")
    for family in models:
        for fields in ({"strength": 0.6}, {"strength": 0.9, "mask": mask}):
            asked = request("a", family, image=picture(1), **fields)
            seen, _ = last_preview(engine_of(models), asked)
            assert seen.pixels.shape == (8, 8, 3)


def test_a_job_that_has_not_begun_has_no_preview(models: dict[str, LoadedModel]) -> None:
    """Before the first step there is nothing to see."""
    engine = engine_of(models)
    engine.add(request("a"))
    assert engine.previews(["a"]) == {}
    engine.step()
    assert engine.previews(["a"]) == {}


def test_a_large_picture_has_a_small_preview() -> None:
    """A preview's longer side is bounded, and its proportions stay."""
    colours = Colours(torch.zeros(5, 3))
    assert colours.paint(torch.zeros(4, 256, 128)).shape == (LONGEST, LONGEST // 2, 3)


def test_an_autoencoder_of_another_kind_has_no_previews() -> None:
    """What cannot be fitted is left out, not refused."""
    assert Colours.fit(torch.nn.Linear(2, 2), 8) is None
