"""LoraAdapters: each job gets the picture of its own LoRAs, whatever happens to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    finished,
    request,
    run_until_idle,
)
from tests.unit.workers.engine.test_reproducible import assert_same_bytes
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.request import BadRequest
from workers.pipelines.loading import repeated
from workers.pipelines.lora_adapters import LORA_FILE
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from pathlib import Path

    from workers.pipelines.model import LoadedModel


@pytest.mark.parametrize("family", FAMILIES)
def test_jobs_with_other_loras_each_get_their_own_picture(family: str, tmp_path: Path) -> None:
    """With one LoRA, two, one at half scale or none, a picture equals the stock one to 1 of 255."""
    folders = {name: save_lora(family, tmp_path / name, seed) for seed, name in enumerate("xy")}
    model = wrap(FAMILIES[family](), name=family, loras=folders)
    sets: dict[str, tuple[tuple[str, float], ...]] = {
        "none": (), "x": (("x", 1.0),), "half": (("x", 0.5),), "both": (("x", 1.0), ("y", 0.7)),
    }  # fmt: skip
    engine = engine_of({family: model})
    for name, loras in sets.items():
        engine.add(request(name, family, loras=loras))
    engine.add(request("again", family, loras=sets["x"]))
    outcomes = run_until_idle(engine)
    for name, loras in sets.items():
        stock = FAMILIES[family]()
        for lora, _ in loras:
            stock.load_lora_weights(folders[lora], adapter_name=lora)
        if loras:
            stock.set_adapters([lora for lora, _ in loras], [scale for _, scale in loras])
        stock.set_progress_bar_config(disable=True)
        negative = {} if family == "flux" else {"negative_prompt": None}
        expected = stock(
            prompt="a red circle", num_inference_steps=4, guidance_scale=4.0, width=16, height=16,
            generator=torch.Generator("cpu").manual_seed(7), **negative,
        ).images[0]  # fmt: skip
        assert distance(outcomes[name], [np.asarray(expected)]) <= 1, name
    assert distance(outcomes["none"], finished(outcomes["x"]).pixels) > 2


def test_a_lora_for_the_text_encoders_is_refused(tmp_path: Path) -> None:
    """All jobs share the encoders, so a LoRA must not change them."""
    pipeline = FAMILIES["sd"]()
    encoder = pipeline.text_encoder
    encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(encoder))
    type(pipeline).save_lora_weights(tmp_path, text_encoder_lora_layers=layers)
    model = wrap(FAMILIES["sd"](), name="sd", loras={"x": tmp_path})
    with pytest.raises(BadRequest, match="text encoders") as caught:
        engine_of({"sd": model}).add(request("a", loras=(("x", 1.0),)))
    assert (caught.value.code, caught.value.field) == ("unusable_lora", "loras")


def test_only_one_file_of_a_loras_folder_is_read(tmp_path: Path) -> None:
    """The model's revision covers this file only, so other weights are not read."""
    save_lora("sd", tmp_path, 1)
    for other in "abcdefgh":
        (tmp_path / f"{other}_pytorch_lora_weights.safetensors").write_text("no weights")
    model = wrap(FAMILIES["sd"](), name="sd", loras={"x": tmp_path})
    engine_of({"sd": model}).add(request("a", loras=(("x", 1.0),)))
    assert model.adapters is not None
    assert model.adapters.loaded == ["x"]


def test_loras_are_unloaded_and_loaded_again(tmp_path: Path) -> None:
    """If two of three are kept, the least recently used one is unloaded; no picture changes."""
    folders = {name: save_lora("sd", tmp_path / name, seed) for seed, name in enumerate("xyz")}
    unlimited = wrap(FAMILIES["sd"](), name="sd", loras=folders)
    limited = wrap(FAMILIES["sd"](), name="sd", loras=folders, loras_kept=2)
    assert unlimited.adapters is not None
    assert limited.adapters is not None
    asked = [request(name, loras=((name[0], 1.0),), seed=3) for name in ("x", "y", "z", "x2")]
    engine = engine_of({"sd": unlimited})
    for one in asked:
        engine.add(one)
    expected = run_until_idle(engine)
    for model in (unlimited, limited):
        engine = engine_of({"sd": model})
        for one in asked[:3]:
            engine.add(one)
        engine.step()
        engine.add(asked[3])  # if the memory is limited, x is unloaded by now
        outcomes = run_until_idle(engine)
        for one in asked:
            assert distance(outcomes[one.id], finished(expected[one.id]).pixels) <= 1, one.id
    assert set(unlimited.adapters.loaded) == set("xyz")
    assert len(limited.adapters.loaded) == 2
    assert set(limited.adapters.module.peft_config) == set(limited.adapters.loaded)
    limited.adapters.activate((("x", 1.0), ("y", 0.5), ("z", 1.0)))
    assert set(limited.adapters.loaded) == set(
        "xyz"
    )  # LoRAs that are active together stay loaded together


@pytest.mark.parametrize("broken", ["text encoder", "no file"])
def test_a_lora_that_cannot_be_loaded_changes_no_picture(broken: str, tmp_path: Path) -> None:
    """Loading fails while another LoRA is active and a third one is loaded."""
    folders = {name: save_lora("sd", tmp_path / name, seed) for seed, name in enumerate("xy")}
    folders["z"] = tmp_path / "z"
    if broken == "text encoder":
        save_mixed_lora(folders["z"])
    model = wrap(FAMILIES["sd"](), name="sd", loras=folders)
    assert model.adapters is not None
    model.adapters.load(["x"])
    expected = run_until_idle(one_job(model, (("y", 1.0),)))["a"]
    engine = one_job(model, (("y", 1.0),))
    outcomes: dict[str, Any] = {}
    while not engine.idle:
        outcomes |= {outcome.id: outcome for outcome in engine.step()}
        with pytest.raises((BadRequest, OSError)):
            engine.add(request("bad", loras=(("z", 1.0),)))
    assert_same_bytes(expected, outcomes["a"])


def test_a_lora_that_cannot_be_activated_leaves_none_active(tmp_path: Path) -> None:
    """The active LoRAs are deactivated first, so a job without LoRAs renders without them."""
    folders = {name: save_lora("sd", tmp_path / name, seed) for seed, name in enumerate("xy")}
    model = wrap(FAMILIES["sd"](), name="sd", loras=folders)
    adapters = model.adapters
    assert adapters is not None
    plain = run_until_idle(one_job(model, ()))["a"]
    adapters.activate((("x", 1.0),))
    (folders["y"] / LORA_FILE).unlink()
    with pytest.raises(OSError, match="y"):
        adapters.activate((("y", 1.0),))
    assert_same_bytes(plain, run_until_idle(one_job(model, ()))["a"])
    with_lora = run_until_idle(one_job(model, (("x", 1.0),)))["a"]
    assert distance(plain, finished(with_lora).pixels) > 2


@pytest.mark.parametrize("family", ["sd", "sd3", "flux"])
def test_loading_and_activating_do_not_change_the_denoiser(family: str, tmp_path: Path) -> None:
    """The copy shares its weights and moves with them; its blocks are compiled only once."""
    folders = {name: save_lora(family, tmp_path / name, seed) for seed, name in enumerate("xy")}
    pipeline: Any = FAMILIES[family]()
    denoiser = pipeline.unet if family == "sd" else pipeline.transformer
    compiled: list[Any] = []

    def compiler(graph: Any, _: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    for block in repeated(denoiser):
        block.compile(backend=compiler, dynamic=False)
    model = wrap(pipeline, name=family, loras=folders)
    modules = {name: type(module) for name, module in denoiser.named_modules()}
    plain = run_until_idle(one_job(model, (), family))["a"]
    once = len(compiled)
    assert once > 0
    for scale in (1.0, 0.5):
        with_loras = run_until_idle(one_job(model, (("x", scale), ("y", 1.0)), family))["a"]
        assert distance(plain, finished(with_loras).pixels) > 2
    assert_same_bytes(plain, run_until_idle(one_job(model, (), family))["a"])
    assert len(compiled) == once
    assert {name: type(module) for name, module in denoiser.named_modules()} == modules
    assert model.adapters is not None
    pointers = {weight.data_ptr() for weight in model.adapters.module.parameters()}
    assert {weight.data_ptr() for weight in denoiser.parameters()} <= pointers
    model.weights.move("meta")
    tensors = (*model.adapters.module.parameters(), *model.adapters.module.buffers())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    shared = {id(buffer) for buffer in denoiser.buffers()}
    assert shared == {id(buffer) for buffer in model.adapters.module.buffers()}
    assert shared or family != "sd3"  # whose position embedding is a buffer


def test_an_unbatched_model_has_the_same_loras(tmp_path: Path) -> None:
    """The weights that the swapper moves include the LoRAs loaded later."""
    model = wrap(FAMILIES["sd"](), name="sd", loras={"x": save_lora("sd", tmp_path / "x", 0)})
    unbatched = model.unbatched_model()
    assert unbatched.adapters is model.adapters
    assert unbatched.adapters is not None
    before = model.weights.size_bytes
    run_until_idle(one_job(unbatched, (("x", 1.0),)))
    assert model.weights.size_bytes > before


def test_out_of_memory_in_the_copy_calls_the_handler(tmp_path: Path) -> None:
    """The handler frees the CUDA graphs, so that the engine can retry."""
    model = wrap(FAMILIES["sd"](), name="sd", loras={"x": save_lora("sd", tmp_path / "x", 0)})
    assert model.adapters is not None
    calls: list[str] = []
    run = model.adapters.wrap_denoiser(lambda: "plain", lambda: calls.append("out of memory"))
    assert run() == "plain"

    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    model.adapters.module.register_forward_pre_hook(refuse)
    model.adapters.activate((("x", 1.0),))
    with pytest.raises(torch.OutOfMemoryError):
        run(None)
    assert calls == ["out of memory"]


def save_lora(family: str, folder: Path, seed: int) -> Path:
    """Save a LoRA with random weights, in the format of the pipelines."""
    pipeline = FAMILIES[family]()  # this also sets the seed
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


def one_job(model: LoadedModel, loras: tuple[tuple[str, float], ...], family: str = "sd") -> Any:
    """Return an engine with one reproducible job that uses these LoRAs."""
    engine = engine_of({family: model})
    engine.add(request("a", family, loras=loras, seed=3, reproducible=True))
    return engine


def save_mixed_lora(folder: Path) -> None:
    """Save a LoRA for the denoiser and the text encoder."""
    pipeline = FAMILIES["sd"]()
    layers = {}
    for part, targets in (("unet", ["to_q"]), ("text_encoder", ["q_proj"])):
        module = getattr(pipeline, part)
        module.add_adapter(LoraConfig(r=2, target_modules=targets))
        weights = convert_state_dict_to_diffusers(get_peft_model_state_dict(module))
        layers[f"{part}_lora_layers"] = weights
    type(pipeline).save_lora_weights(folder, **layers)
