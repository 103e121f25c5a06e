"""Drain and resume: a job goes on elsewhere from its checkpoint, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from tests.unit.workers.engine.reference import engine_of, picture, request, run_until_idle
from tests.unit.workers.engine.test_reproducible import MASK, assert_same_bytes
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.replay import ReplayLog
from workers.engine.request import BadCheckpoint, Drained
from workers.pipelines import loading
from workers.pipelines.schedulers import DIFFUSION, FLOW

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.request import Request
    from workers.pipelines.model import LoadedModel

STEPS = 16
KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "image": {"image": picture(1), "strength": 0.8},
    "mask": {"image": picture(1), "mask": MASK, "strength": 0.8},
}


MATRIX = [
    *(("sd", name, "text") for name in DIFFUSION),
    *(("sd", "euler_a", kind) for kind in ("image", "mask")),
    ("sdxl", "euler_a", "text"),
    *((family, name, kind) for family in ("sd3", "flux") for name in FLOW for kind in KINDS),
]


def drain_after(models: dict[str, LoadedModel], asked: Request, steps: int) -> Drained:
    """Render so many steps, in company, and leave."""
    engine = engine_of(models)
    engine.add(asked)
    engine.add(request("mate", asked.model, num_inference_steps=99, reproducible=True))
    while engine.progress()[asked.id][0] < steps:
        assert not engine.step()
    drained = {left.id: left for left in engine.drain()}
    assert engine.idle
    assert set(drained) == {asked.id, "mate"}
    return drained[asked.id]


@pytest.mark.parametrize(("family", "scheduler", "kind"), MATRIX)
def test_a_resumed_job_ends_with_the_same_bytes(
    family: str, scheduler: str, kind: str, models: dict[str, LoadedModel]
) -> None:
    """Drained at 7 of 16 steps and resumed elsewhere, the picture is the undisturbed one's."""
    asked = request(
        "a", family, num_inference_steps=STEPS, scheduler=scheduler, reproducible=True,
        num_images=2, **KINDS[kind],
    )  # fmt: skip
    engine = engine_of(models)
    engine.add(asked)
    undisturbed = run_until_idle(engine)["a"]
    forwards = engine.stats.forwards["denoiser"]

    left = drain_after(models, asked, 7)
    assert left.checkpoint is not None
    engine = engine_of(models)
    engine.add(asked, checkpoint=left.checkpoint)
    assert_same_bytes(undisturbed, run_until_idle(engine)["a"])
    assert engine.stats.forwards["denoiser"] == forwards - left.steps


def test_a_model_in_channels_last_leaves_checkpoints_too(tmp_path: Path) -> None:
    """Its answers have another layout, which a file cannot hold: resumed, they have it again."""
    FAMILIES["sd"]().save_pretrained(tmp_path)
    models = {"sd": loading.load(tmp_path, name="sd", channels_last=True)}
    asked = request("a", num_inference_steps=STEPS, scheduler="euler_a", reproducible=True)
    engine = engine_of(models)
    engine.add(asked)
    undisturbed = run_until_idle(engine)["a"]
    left = drain_after(models, asked, 7)
    assert left.checkpoint is not None
    answer = ReplayLog(asked, left.checkpoint)._answers[0]
    assert answer.is_contiguous(memory_format=torch.channels_last)
    assert not answer.is_contiguous()
    engine = engine_of(models)
    engine.add(asked, checkpoint=left.checkpoint)
    assert_same_bytes(undisturbed, run_until_idle(engine)["a"])


def test_a_job_may_be_drained_again_and_again(models: dict[str, LoadedModel]) -> None:
    """Each worker in turn adds its steps to the checkpoint; none is lost or done twice."""
    asked = request("a", num_inference_steps=STEPS, scheduler="euler_a", reproducible=True)
    engine = engine_of(models)
    engine.add(asked)
    undisturbed = run_until_idle(engine)["a"]

    checkpoint, forwards = None, 0
    for steps in (3, 4, 9):
        engine = engine_of(models)
        engine.add(asked, checkpoint=checkpoint)
        while engine.progress()["a"][0] < steps:
            engine.step()
        forwards += engine.stats.forwards["denoiser"]
        (left,) = engine.drain()
        assert left.steps == steps
        checkpoint = left.checkpoint
    engine = engine_of(models)
    engine.add(asked, checkpoint=checkpoint)
    assert_same_bytes(undisturbed, run_until_idle(engine)["a"])
    assert forwards + engine.stats.forwards["denoiser"] == STEPS


def test_a_job_that_has_not_begun_leaves_as_it_came(models: dict[str, LoadedModel]) -> None:
    """Without a denoiser call there is no checkpoint; a checkpoint that came along is kept."""
    asked = request("a", num_inference_steps=STEPS, reproducible=True)
    engine = engine_of(models)
    engine.add(asked)
    assert engine.drain() == [Drained("a", 0, None)]
    left = drain_after(models, asked, 5)
    engine.add(asked, checkpoint=left.checkpoint)
    (again,) = engine.drain()
    assert again.steps == left.steps
    assert _answers(again).equal(_answers(left))


def _answers(left: Drained) -> torch.Tensor:
    assert left.checkpoint is not None
    answers = safetensors.torch.load(left.checkpoint)
    return torch.stack([answers[name] for name in sorted(answers)])


def test_a_checkpoint_of_another_request_is_refused(models: dict[str, LoadedModel]) -> None:
    """Whatever changes the picture, so other weights too, makes it another request; an id does not."""
    asked = request("a", num_inference_steps=STEPS, image=picture(1), strength=0.9)
    checkpoint = drain_after(models, asked, 2).checkpoint
    engine = engine_of(models)
    changes = {"seed": 8}, {"image": picture(3)}, {"scheduler": "euler"}, {"revision": "r2"}
    for change in changes:
        fields = {"num_inference_steps": STEPS, "image": picture(1), "strength": 0.9, **change}
        with pytest.raises(BadCheckpoint, match="another request"):
            engine.add(request("a", **fields), checkpoint=checkpoint)
    assert engine.idle
    again = request(
        "b", num_inference_steps=STEPS, image=picture(1), strength=0.9, priority=1, exclusive=True
    )
    engine.add(again, checkpoint=checkpoint)


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_a_broken_checkpoint_is_refused(cut: int, models: dict[str, LoadedModel]) -> None:
    """A file that ends too early raises BadCheckpoint and nothing else, wherever it was cut."""
    asked = request("a", num_inference_steps=STEPS)
    checkpoint = drain_after(models, asked, 2).checkpoint
    assert checkpoint is not None
    engine = engine_of(models)
    with pytest.raises(BadCheckpoint):
        engine.add(asked, checkpoint=checkpoint[:cut])
    assert engine.idle


def test_a_checkpoint_is_small(models: dict[str, LoadedModel]) -> None:
    """It holds the outputs and little else, not the batches they were cut from."""
    asked = request("a", num_inference_steps=STEPS, guidance_scale=1.0)
    left = drain_after(models, asked, 4)
    assert left.checkpoint is not None
    assert len(left.checkpoint) < left.steps * 4 * 8 * 8 * 4 + 2048
