"""Schedulers (samplers) by name, and one copy for each job."""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any

import diffusers

# For UNets, which predict the noise, the clean image or v.
DIFFUSION = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "pndm": diffusers.PNDMScheduler,
    "lcm": diffusers.LCMScheduler,
}
# For transformers trained by flow matching.
FLOW = {"flow_euler": diffusers.FlowMatchEulerDiscreteScheduler}

# The settings of Stable Diffusion's own folders; the classes' defaults are for pixel-space models.
LATENT_DEFAULTS = {"clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True}

# The settings of a model's training, which all of its schedulers must share.
TRAINED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)


def build(own: Any) -> dict[str | None, Any]:
    """Return the schedulers that can replace a model's `own`, by name; `own` has the name None."""
    flow = isinstance(own, diffusers.FlowMatchEulerDiscreteScheduler)
    kinds = FLOW if flow else DIFFUSION
    return {None: own, **{name: _convert(own.config, kind) for name, kind in kinds.items()}}


def _convert(config: Any, kind: Any) -> Any:
    """Build a scheduler of `kind` for the model whose own scheduler has this `config`.

    `from_config` alone replaces the settings that the config leaves at a default by the defaults of
    `kind`. That could change the noise schedule of the model's training.
    """
    known = inspect.signature(kind).parameters
    implied = config.get("_use_default_values", ())
    values: dict[str, Any] = {
        key: value for key, value in LATENT_DEFAULTS.items() if key not in config or key in implied
    }
    values |= {key: config[key] for key in TRAINED if key in config}
    return kind.from_config(config, **{key: values[key] for key in values if key in known})


def for_job(scheduler: Any) -> Any:
    """Copy a scheduler for one job, so that no step waits for the device.

    Pipelines put the timesteps on their device. There each step would read them back, and the
    scheduler would search for its first step. So the copy keeps its timesteps on the CPU and begins
    at step 0; image-to-image pipelines set a later step themselves.
    """
    scheduler = copy.deepcopy(scheduler)
    set_timesteps = scheduler.set_timesteps

    @functools.wraps(set_timesteps)  # pipelines inspect its signature
    def set_timesteps_on_cpu(*args: Any, **kwargs: Any) -> None:
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        set_timesteps(*args, **kwargs)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)

    scheduler.set_timesteps = set_timesteps_on_cpu
    return scheduler
