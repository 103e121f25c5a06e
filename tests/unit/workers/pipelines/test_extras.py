"""LoRAs and ControlNets: a picture in a mixed batch equals the stock pipeline's."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from tests.unit.workers.engine.reference import engine_of, picture, request, run_until_idle
from tests.unit.workers.engine.test_reproducible import MASK, assert_same_bytes
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.request import BadRequest, Finished
from workers.pipelines import loading
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from pathlib import Path

    from workers.pipelines.model import LoadedModel

STEERED = {
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
    """Make a ControlNet of random weights that has a say."""
    torch.manual_seed(9)
    net = diffusers.ControlNetModel.from_unet(
        pipeline.unet, conditioning_embedding_out_channels=(4, 8)
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


def save_lora(family: str, folder: Path, seed: int) -> Path:
    """Write a LoRA of random weights, in the form that pipelines write."""
    pipeline = FAMILIES[family]()  # which seeds, too
    torch.manual_seed(seed)
    denoiser = "unet" if family in ("sd", "sdxl") else "transformer"
    module = getattr(pipeline, denoiser)
    module.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v"]))
    for name, parameter in module.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(module))
    type(pipeline).save_lora_weights(folder, **{f"{denoiser}_lora_layers": layers})
    return folder


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_steered_and_free_jobs_each_get_the_stock_picture(family: str) -> None:
    """ControlNet jobs of all kinds, with strangers among them, are within 1 of 255 of alone."""
    pipeline = FAMILIES[family]()
    net = controlnet(pipeline)
    model = wrap(pipeline, name=family, controlnets={"edges": net})
    steered: dict[str, Any] = {
        "controlnet": "edges", "control_image": picture(5), "controlnet_conditioning_scale": 0.7,
        "scheduler": "euler_a",
    }  # fmt: skip
    asked = {kind: request(kind, family, **steered, **more) for kind, more in KINDS.items()}
    engine = engine_of({family: model}, max_rows=16)
    for one in (*asked.values(), request("twin", family, **steered), request("free", family)):
        engine.add(one)
    outcomes = run_until_idle(engine)
    assert engine.stats.rows["control"] > engine.stats.forwards["control"] * 2
    for kind, one in asked.items():
        finished = outcomes[kind]
        assert isinstance(finished, Finished), finished
        parts = {**pipeline.components, "scheduler": copy.deepcopy(model.schedulers["euler_a"])}
        lone = STEERED[family, kind](**parts, controlnet=net)
        lone.set_progress_bar_config(disable=True)
        arguments: dict[str, Any] = {"image": one.control_image}
        if kind != "text":
            arguments = {
                "image": one.image,
                "control_image": one.control_image,
                "strength": one.strength,
            }
        if kind == "mask":
            arguments["mask_image"] = one.mask
        expected = lone(
            prompt=one.prompt, negative_prompt=one.negative_prompt or None, num_inference_steps=4,
            guidance_scale=4.0, width=16, height=16, controlnet_conditioning_scale=0.7,
            generator=torch.Generator("cpu").manual_seed(7), **arguments,
        ).images[0]  # fmt: skip
        off = np.abs(finished.pixels[0].astype(int) - np.asarray(expected).astype(int)).max()
        assert off <= 1, kind
    assert np.abs(outcomes["text"].pixels[0].astype(int) - outcomes["free"].pixels[0]).max() > 4


def test_a_steered_job_resumes_exactly() -> None:
    """The checkpoint skips the ControlNet's calls along with the denoiser's."""
    pipeline = FAMILIES["sd"]()
    model = wrap(pipeline, name="sd", controlnets={"edges": controlnet(pipeline)})
    asked = request(
        "a", controlnet="edges", control_image=picture(5), num_inference_steps=8, reproducible=True
    )
    engine = engine_of({"sd": model})
    engine.add(asked)
    undisturbed = run_until_idle(engine)["a"]
    engine.add(asked)
    while engine.progress()["a"][0] < 5:
        engine.step()
    (left,) = engine.drain()
    engine = engine_of({"sd": model})
    engine.add(asked, checkpoint=left.checkpoint)
    assert_same_bytes(undisturbed, run_until_idle(engine)["a"])
    assert engine.stats.forwards["denoiser"] == engine.stats.forwards["control"] == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_jobs_with_other_loras_each_get_their_own_picture(family: str, tmp_path: Path) -> None:
    """Two LoRAs, both together, one at half strength and none, in one run: each as if alone."""
    folders = {name: save_lora(family, tmp_path / name, seed) for seed, name in enumerate("xy")}
    model = wrap(FAMILIES[family](), name=family, loras=folders)
    sets: dict[str, tuple[tuple[str, float], ...]] = {
        "none": (), "x": (("x", 1.0),), "half": (("x", 0.5),), "both": (("x", 1.0), ("y", 0.7)),
    }  # fmt: skip
    engine = engine_of({family: model})
    for name, loras in sets.items():
        engine.add(request(name, family, loras=loras))
    engine.add(request("twin", family, loras=sets["x"]))
    outcomes = run_until_idle(engine)
    for name, loras in sets.items():
        lone = FAMILIES[family]()
        for lora, _ in loras:
            lone.load_lora_weights(folders[lora], adapter_name=lora)
        if loras:
            lone.set_adapters([lora for lora, _ in loras], [scale for _, scale in loras])
        lone.set_progress_bar_config(disable=True)
        negative = {} if family == "flux" else {"negative_prompt": None}
        expected = lone(
            prompt="a red circle", num_inference_steps=4, guidance_scale=4.0, width=16, height=16,
            generator=torch.Generator("cpu").manual_seed(7), **negative,
        ).images[0]  # fmt: skip
        off = outcomes[name].pixels[0].astype(int) - np.asarray(expected).astype(int)
        assert np.abs(off).max() <= 1, name
    apart = outcomes["none"].pixels[0].astype(int) - outcomes["x"].pixels[0]
    assert np.abs(apart).max() > 2


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("loras", {"loras": (("nobody", 1.0),)}),
        ("controlnet", {"controlnet": "nobody", "control_image": picture(1)}),
        ("control_image", {"controlnet": "edges"}),
        ("controlnet", {"control_image": picture(1)}),
    ],
)
def test_extras_that_the_model_does_not_have_are_refused(
    field: str, changes: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """An unknown LoRA or ControlNet, or half of a pair, is named."""
    with pytest.raises(BadRequest) as caught:
        engine_of(models).add(request("a", **changes))
    assert caught.value.field == field


def test_a_lora_for_the_text_encoders_is_refused(tmp_path: Path) -> None:
    """Encoders are shared by all jobs, so what would change them is not put on."""
    pipeline = FAMILIES["sd"]()
    encoder = pipeline.text_encoder
    encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(encoder))
    type(pipeline).save_lora_weights(tmp_path, text_encoder_lora_layers=layers)
    model = wrap(FAMILIES["sd"](), name="sd", loras={"x": tmp_path})
    with pytest.raises(BadRequest, match="text encoders") as caught:
        engine_of({"sd": model}).add(request("a", loras=(("x", 1.0),)))
    assert (caught.value.code, caught.value.field) == ("unusable_lora", "loras")


def test_of_a_loras_folder_one_file_is_read(tmp_path: Path) -> None:
    """Other weights beside it are not taken for it: the model's revision covers that file alone."""
    save_lora("sd", tmp_path, 1)
    for other in "abcdefgh":
        (tmp_path / f"{other}_pytorch_lora_weights.safetensors").write_text("no weights")
    model = wrap(FAMILIES["sd"](), name="sd", loras={"x": tmp_path})
    engine_of({"sd": model}).add(request("a", loras=(("x", 1.0),)))
    assert model.adapters is not None
    assert model.adapters.loaded == ["x"]


def test_tiled_decoding_is_that_of_the_stock_pipeline(tmp_path: Path) -> None:
    """With tiling, a picture larger than a tile is diffusers' own tiled one."""
    FAMILIES["sd"]().save_pretrained(tmp_path)
    model = loading.load(tmp_path, name="sd", vae_tiling=True)
    engine = engine_of({"sd": model})
    engine.add(request("a", width=64, height=48, reproducible=True))
    tiled = run_until_idle(engine)["a"]
    lone = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    lone.vae.enable_tiling()
    lone.set_progress_bar_config(disable=True)
    expected = lone(
        prompt="a red circle", num_inference_steps=4, guidance_scale=4.0, width=64, height=48,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]  # fmt: skip
    assert isinstance(tiled, Finished)
    assert np.abs(tiled.pixels[0].astype(int) - np.asarray(expected).astype(int)).max() <= 1
    lone.vae.disable_tiling()


def test_loras_leave_memory_and_come_back(tmp_path: Path) -> None:
    """With room for two of three, the least recently used leaves, and each picture stays its own."""
    folders = {name: save_lora("sd", tmp_path / name, seed) for seed, name in enumerate("xyz")}
    free = wrap(FAMILIES["sd"](), name="sd", loras=folders)
    tight = wrap(FAMILIES["sd"](), name="sd", loras=folders, loras_kept=2)
    assert free.adapters is not None
    assert tight.adapters is not None
    asked = [request(name, loras=((name[0], 1.0),), seed=3) for name in ("x", "y", "z", "x2")]
    engine = engine_of({"sd": free})
    for one in asked:
        engine.add(one)
    wanted = run_until_idle(engine)
    for model in (free, tight):
        engine = engine_of({"sd": model})
        for one in asked[:3]:
            engine.add(one)
        engine.step()
        engine.add(asked[3])  # by now x has left where room is tight
        outcomes = run_until_idle(engine)
        for one in asked:
            finished = outcomes[one.id]
            assert isinstance(finished, Finished), finished
            off = finished.pixels[0].astype(int) - wanted[one.id].pixels[0]
            assert np.abs(off).max() <= 1, one.id
    assert set(free.adapters.loaded) == set("xyz")
    assert len(tight.adapters.loaded) == 2
    held = tight.adapters.module.peft_config
    assert set(held) == set(tight.adapters.loaded)
    tight.adapters.activate((("x", 1.0), ("y", 0.5), ("z", 1.0)))
    assert set(tight.adapters.loaded) == set("xyz")  # what is worn together is kept together
