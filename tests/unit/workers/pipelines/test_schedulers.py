"""Schedulers: by name, and a copy for each job that never waits for the device."""

from __future__ import annotations

import inspect

import diffusers
import pytest

from workers.pipelines import schedulers

DDIM = diffusers.DDIMScheduler(clip_sample=False, prediction_type="v_prediction")
FLOW = diffusers.FlowMatchEulerDiscreteScheduler(shift=2.5)


@pytest.mark.parametrize("name", schedulers.DIFFUSION)
def test_each_scheduler_keeps_the_settings_of_the_training(name: str) -> None:
    """A scheduler by name keeps the model's prediction type and noise range."""
    scheduler = schedulers.build(DDIM)[name]
    assert type(scheduler) is schedulers.DIFFUSION[name]
    for key in ("prediction_type", "beta_start", "beta_end", "beta_schedule"):
        assert scheduler.config[key] == DDIM.config[key], key
    assert not scheduler.config.get("clip_sample")


def test_explicit_settings_of_a_model_are_kept() -> None:
    """Explicit settings of its own scheduler are kept; missing ones get the values for latents."""
    clipped = schedulers.build(diffusers.DDIMScheduler(clip_sample=True))
    assert clipped["ddim"].config.clip_sample
    assert clipped["pndm"].config.skip_prk_steps
    open_ended = schedulers.build(diffusers.LCMScheduler())
    assert not open_ended["ddim"].config.clip_sample


def test_flow_models_have_only_flow_schedulers() -> None:
    """Schedulers that would fail in the first step are not offered."""
    offered = schedulers.build(FLOW)
    assert set(offered) == {None, "flow_euler"}
    assert offered["flow_euler"].config.shift == 2.5


@pytest.mark.parametrize("name", [name for name in schedulers.DIFFUSION if name != "ddim"])
def test_a_jobs_timesteps_stay_on_the_cpu(name: str) -> None:
    """A job's copy ignores the device for its timesteps, and begins at step 0."""
    scheduler = schedulers.for_job(schedulers.build(DDIM)[name])
    scheduler.set_timesteps(5, device="meta")
    assert scheduler.timesteps.device.type == "cpu"
    assert getattr(scheduler, "begin_index", 0) == 0
    assert "device" in inspect.signature(scheduler.set_timesteps).parameters


def test_a_jobs_copy_is_its_own() -> None:
    """The scheduler of one job does not affect that of another."""
    first, second = schedulers.for_job(DDIM), schedulers.for_job(DDIM)
    first.set_timesteps(3)
    second.set_timesteps(9)
    assert (len(first.timesteps), len(second.timesteps)) == (3, 9)
    assert DDIM.num_inference_steps is None
