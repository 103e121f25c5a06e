"""ControlNets: a picture in a mixed batch equals the stock pipeline's."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import pytest
import torch

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    finished,
    picture,
    request,
    run_until_idle,
)
from tests.unit.workers.engine.test_reproducible import MASK, assert_same_bytes
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.request import BadRequest
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from workers.pipelines.model import LoadedModel

CONTROLNET_PIPELINES = {
    ("sd", "text"): diffusers.StableDiffusionControlNetPipeline,
    ("sd", "image"): diffusers.StableDiffusionControlNetImg2ImgPipeline,
    ("sd", "mask"): diffusers.StableDiffusionControlNetInpaintPipeline,
    ("sdxl", "text"): diffusers.StableDiffusionXLControlNetPipeline,
    ("sdxl", "image"): diffusers.StableDiffusionXLControlNetImg2ImgPipeline,
    ("sdxl", "mask"): diffusers.StableDiffusionXLControlNetInpaintPipeline,
}
KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "image": {"image": picture(1), "strength": 0.8},
    "mask": {"image": picture(1), "mask": MASK, "strength": 0.9},
}


def controlnet(pipeline: Any) -> diffusers.ControlNetModel:
    """Return a ControlNet with random weights that changes the picture."""
    torch.manual_seed(9)
    net = diffusers.ControlNetModel.from_unet(
        pipeline.unet, conditioning_embedding_out_channels=(4, 8)
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_jobs_with_and_without_a_controlnet_get_the_stock_picture(family: str) -> None:
    """ControlNet jobs of all tasks, batched with other jobs, are within 1 of 255 of unbatched."""
    pipeline = FAMILIES[family]()
    net = controlnet(pipeline)
    model = wrap(pipeline, name=family, controlnets={"edges": net})
    fields: dict[str, Any] = {
        "controlnet": "edges", "control_image": picture(5), "controlnet_conditioning_scale": 0.7,
        "scheduler": "euler_a",
    }  # fmt: skip
    asked = {kind: request(kind, family, **fields, **more) for kind, more in KINDS.items()}
    engine = engine_of({family: model}, max_rows=16)
    for one in (*asked.values(), request("again", family, **fields), request("plain", family)):
        engine.add(one)
    outcomes = run_until_idle(engine)
    assert engine.stats.rows["control"] > engine.stats.forwards["control"] * 2
    for kind, one in asked.items():
        parts = {**pipeline.components, "scheduler": copy.deepcopy(model.schedulers["euler_a"])}
        stock = CONTROLNET_PIPELINES[family, kind](**parts, controlnet=net)
        stock.set_progress_bar_config(disable=True)
        arguments: dict[str, Any] = {"image": one.control_image}
        if kind != "text":
            arguments = {
                "image": one.image,
                "control_image": one.control_image,
                "strength": one.strength,
            }
        if kind == "mask":
            arguments["mask_image"] = one.mask
        expected = stock(
            prompt=one.prompt, negative_prompt=one.negative_prompt or None, num_inference_steps=4,
            guidance_scale=4.0, width=16, height=16, controlnet_conditioning_scale=0.7,
            generator=torch.Generator("cpu").manual_seed(7), **arguments,
        ).images[0]  # fmt: skip
        assert distance(outcomes[kind], [np.asarray(expected)]) <= 1, kind
    assert distance(outcomes["text"], finished(outcomes["plain"]).pixels) > 4


def test_a_job_with_a_controlnet_resumes_exactly() -> None:
    """The checkpoint answers the ControlNet's calls together with the denoiser's."""
    pipeline = FAMILIES["sd"]()
    model = wrap(pipeline, name="sd", controlnets={"edges": controlnet(pipeline)})
    asked = request(
        "a", controlnet="edges", control_image=picture(5), num_inference_steps=8, reproducible=True
    )
    engine = engine_of({"sd": model})
    engine.add(asked)
    uninterrupted = run_until_idle(engine)["a"]
    engine.add(asked)
    while engine.progress()["a"][0] < 5:
        engine.step()
    (drained,) = engine.drain()
    engine = engine_of({"sd": model})
    engine.add(asked, checkpoint=drained.checkpoint)
    assert_same_bytes(uninterrupted, run_until_idle(engine)["a"])
    assert engine.stats.forwards["denoiser"] == engine.stats.forwards["control"] == 3


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("loras", {"loras": (("nobody", 1.0),)}),
        ("controlnet", {"controlnet": "nobody", "control_image": picture(1)}),
        ("control_image", {"controlnet": "edges"}),
        ("controlnet", {"control_image": picture(1)}),
    ],
)
def test_unknown_loras_and_controlnets_are_refused(
    field: str, changes: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """The error has the field of an unknown LoRA or ControlNet, or of a missing value."""
    with pytest.raises(BadRequest) as caught:
        engine_of(models).add(request("a", **changes))
    assert caught.value.field == field
