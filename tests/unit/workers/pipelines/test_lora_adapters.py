"""LoRAs that can't be read: what the denoiser wears for other jobs stays what they asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from tests.unit.workers.engine.reference import engine_of, request, run_until_idle
from tests.unit.workers.engine.test_reproducible import assert_same_bytes
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from tests.unit.workers.pipelines.test_extras import save_lora
from workers.engine.request import BadRequest
from workers.pipelines.loading import repeated
from workers.pipelines.lora_adapters import LORA_FILE
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from pathlib import Path

    from workers.pipelines.model import LoadedModel


@pytest.mark.parametrize("broken", ["text encoder", "no file"])
def test_a_lora_that_cannot_be_read_leaves_on_what_is_worn(broken: str, tmp_path: Path) -> None:
    """While one is worn and another is in memory, a third one's failure changes no picture."""
    folders = {name: save_lora("sd", tmp_path / name, seed) for seed, name in enumerate("xy")}
    folders["z"] = tmp_path / "z"
    if broken == "text encoder":
        save_mixed_lora(folders["z"])
    model = wrap(FAMILIES["sd"](), name="sd", loras=folders)
    assert model.adapters is not None
    model.adapters.load(["x"])
    quiet = run_until_idle(one_job(model, (("y", 1.0),)))["a"]
    engine = one_job(model, (("y", 1.0),))
    disturbed: dict[str, Any] = {}
    while not engine.idle:
        disturbed |= {outcome.id: outcome for outcome in engine.step()}
        with pytest.raises((BadRequest, OSError)):
            engine.add(request("bad", loras=(("z", 1.0),)))
    assert_same_bytes(quiet, disturbed["a"])


def test_a_lora_that_is_gone_when_it_is_put_on_leaves_nothing_on(tmp_path: Path) -> None:
    """What was worn before comes off first, so a job without LoRAs wears none."""
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
    worn = run_until_idle(one_job(model, (("x", 1.0),)))["a"]
    assert np.abs(plain.pixels[0].astype(int) - worn.pixels[0]).max() > 2  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ["sd", "sd3", "flux"])
def test_reading_and_wearing_leaves_the_denoiser_as_it_was(family: str, tmp_path: Path) -> None:
    """The twin has the same weights and moves with them; what is compiled is compiled once, LoRAs or not."""
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
        worn = run_until_idle(one_job(model, (("x", scale), ("y", 1.0)), family))["a"]
        assert np.abs(plain.pixels[0].astype(int) - worn.pixels[0]).max() > 2
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
    assert shared or family != "sd3"  # whose positions are one


def test_served_one_at_a_time_a_model_has_the_same_loras(tmp_path: Path) -> None:
    """What wears them is known to the shelf since before: it moves with the model."""
    model = wrap(FAMILIES["sd"](), name="sd", loras={"x": save_lora("sd", tmp_path / "x", 0)})
    alone = model.unbatched_model()
    assert alone.adapters is model.adapters
    assert alone.adapters is not None
    before = model.weights.size_bytes
    run_until_idle(one_job(alone, (("x", 1.0),)))
    assert model.weights.size_bytes > before


def test_memory_that_ends_under_the_twin_has_the_records_go(tmp_path: Path) -> None:
    """They hold what it needs, and the engine tries once more."""
    model = wrap(FAMILIES["sd"](), name="sd", loras={"x": save_lora("sd", tmp_path / "x", 0)})
    assert model.adapters is not None
    told: list[str] = []
    run = model.adapters.wrap_denoiser(lambda: "plain", lambda: told.append("full"))
    assert run() == "plain"

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    model.adapters.module.register_forward_pre_hook(full)
    model.adapters.activate((("x", 1.0),))
    with pytest.raises(torch.OutOfMemoryError):
        run(None)
    assert told == ["full"]


def one_job(model: LoadedModel, loras: tuple[tuple[str, float], ...], family: str = "sd") -> Any:
    """Make an engine with one reproducible job that wears these."""
    engine = engine_of({family: model})
    engine.add(request("a", family, loras=loras, seed=3, reproducible=True))
    return engine


def save_mixed_lora(folder: Path) -> None:
    """Save a LoRA of the denoiser and of the text encoder."""
    pipeline = FAMILIES["sd"]()
    layers = {}
    for part, targets in (("unet", ["to_q"]), ("text_encoder", ["q_proj"])):
        module = getattr(pipeline, part)
        module.add_adapter(LoraConfig(r=2, target_modules=targets))
        found = convert_state_dict_to_diffusers(get_peft_model_state_dict(module))
        layers[f"{part}_lora_layers"] = found
    type(pipeline).save_lora_weights(folder, **layers)
