"""Replay: a drained job resumes in another engine from its checkpoint, exactly."""

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
    """Render this many steps next to another job, then drain the engine."""
    engine = engine_of(models)
    engine.add(asked)
    engine.add(request("other", asked.model, num_inference_steps=99, reproducible=True))
    while engine.progress()[asked.id][0] < steps:
        assert not engine.step()
    drained = {job.id: job for job in engine.drain()}
    assert engine.idle
    assert set(drained) == {asked.id, "other"}
    return drained[asked.id]


@pytest.mark.parametrize(("family", "scheduler", "kind"), MATRIX)
def test_a_resumed_job_ends_with_the_same_bytes(
    family: str, scheduler: str, kind: str, models: dict[str, LoadedModel]
) -> None:
    """Drained at 7 of 16 steps and resumed, a job gives the bytes of an uninterrupted one."""
    asked = request(
        "a", family, num_inference_steps=STEPS, scheduler=scheduler, reproducible=True,
        num_images=2, **KINDS[kind],
    )  # fmt: skip
    engine = engine_of(models)
    engine.add(asked)
    uninterrupted = run_until_idle(engine)["a"]
    forwards = engine.stats.forwards["denoiser"]

    drained = drain_after(models, asked, 7)
    assert drained.checkpoint is not None
    engine = engine_of(models)
    engine.add(asked, checkpoint=drained.checkpoint)
    assert_same_bytes(uninterrupted, run_until_idle(engine)["a"])
    assert engine.stats.forwards["denoiser"] == forwards - drained.steps


def test_a_checkpoint_keeps_the_channels_last_layout(tmp_path: Path) -> None:
    """A file cannot hold this layout, so the answers get it back when they are loaded."""
    FAMILIES["sd"]().save_pretrained(tmp_path)
    models = {"sd": loading.load(tmp_path, name="sd", channels_last=True)}
    asked = request("a", num_inference_steps=STEPS, scheduler="euler_a", reproducible=True)
    engine = engine_of(models)
    engine.add(asked)
    uninterrupted = run_until_idle(engine)["a"]
    drained = drain_after(models, asked, 7)
    assert drained.checkpoint is not None
    answer = ReplayLog(asked, drained.checkpoint)._answers[0]
    assert answer.is_contiguous(memory_format=torch.channels_last)
    assert not answer.is_contiguous()
    engine = engine_of(models)
    engine.add(asked, checkpoint=drained.checkpoint)
    assert_same_bytes(uninterrupted, run_until_idle(engine)["a"])


def test_a_job_may_be_drained_several_times(models: dict[str, LoadedModel]) -> None:
    """Each engine adds its steps to the checkpoint; no step is lost or runs twice."""
    asked = request("a", num_inference_steps=STEPS, scheduler="euler_a", reproducible=True)
    engine = engine_of(models)
    engine.add(asked)
    uninterrupted = run_until_idle(engine)["a"]

    checkpoint, forwards = None, 0
    for steps in (3, 4, 9):
        engine = engine_of(models)
        engine.add(asked, checkpoint=checkpoint)
        while engine.progress()["a"][0] < steps:
            engine.step()
        forwards += engine.stats.forwards["denoiser"]
        (drained,) = engine.drain()
        assert drained.steps == steps
        checkpoint = drained.checkpoint
    engine = engine_of(models)
    engine.add(asked, checkpoint=checkpoint)
    assert_same_bytes(uninterrupted, run_until_idle(engine)["a"])
    assert forwards + engine.stats.forwards["denoiser"] == STEPS


def test_a_job_before_its_first_step_keeps_its_checkpoint(models: dict[str, LoadedModel]) -> None:
    """Without a denoiser call there is no new checkpoint; an earlier checkpoint is kept."""
    asked = request("a", num_inference_steps=STEPS, reproducible=True)
    engine = engine_of(models)
    engine.add(asked)
    assert engine.drain() == [Drained("a", 0, None)]
    drained = drain_after(models, asked, 5)
    engine.add(asked, checkpoint=drained.checkpoint)
    (again,) = engine.drain()
    assert again.steps == drained.steps
    assert _answers(again).equal(_answers(drained))


def _answers(drained: Drained) -> torch.Tensor:
    assert drained.checkpoint is not None
    answers = safetensors.torch.load(drained.checkpoint)
    return torch.stack([answers[name] for name in sorted(answers)])


def test_a_checkpoint_of_another_request_is_refused(models: dict[str, LoadedModel]) -> None:
    """All fields that change the picture count, the revision included; the id does not."""
    asked = request("a", num_inference_steps=STEPS, image=picture(1), strength=0.9)
    checkpoint = drain_after(models, asked, 2).checkpoint
    engine = engine_of(models)
    changes: list[dict[str, Any]] = [
        {"seed": 8},
        {"image": picture(3)},
        {"scheduler": "euler"},
        {"revision": "r2"},
    ]
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
    """A file that is truncated anywhere raises BadCheckpoint and nothing else."""
    asked = request("a", num_inference_steps=STEPS)
    checkpoint = drain_after(models, asked, 2).checkpoint
    assert checkpoint is not None
    engine = engine_of(models)
    with pytest.raises(BadCheckpoint):
        engine.add(asked, checkpoint=checkpoint[:cut])
    assert engine.idle


def test_a_checkpoint_is_small(models: dict[str, LoadedModel]) -> None:
    """It holds the answers and little else, not the batches that they are views of."""
    asked = request("a", num_inference_steps=STEPS, guidance_scale=1.0)
    drained = drain_after(models, asked, 4)
    assert drained.checkpoint is not None
    assert len(drained.checkpoint) < drained.steps * 4 * 8 * 8 * 4 + 2048
