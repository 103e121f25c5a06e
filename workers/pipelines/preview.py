"""Previews: a job's expected picture, at one pixel per latent.

The denoiser's last answer gives the clean latents that it expects. A linear map, fitted once for
each autoencoder, turns them into colours without a decode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workers.engine.rows import Call

# The map is fitted on this many pictures of SIDE x SIDE latents; each gives 16 * 16 equations.
FITTED_ON, SIDE = 12, 16
# The longest side of a preview in pixels; larger ones are scaled down, as they are sent often.
LONGEST = 96
SMALLEST_SIGNAL = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class DenoiserInput:
    """The part of a denoiser call for a preview: `noisy` latents, and `times`, one for each row.

    The rest of the call, such as a ControlNet's answers, can be freed.
    """

    noisy: torch.Tensor
    times: torch.Tensor

    @classmethod
    def of(cls, call: Call) -> DenoiserInput | None:
        """Return the input of a call; None if it does not have the stock form."""
        arguments = call.arguments
        noisy = arguments.get("sample", arguments.get("hidden_states"))
        times = arguments.get("timestep")
        if not isinstance(noisy, torch.Tensor) or not isinstance(times, torch.Tensor):
            return None
        return cls(noisy, times)


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """The linear map from latents, scaled and shifted as in the pipelines, to colours.

    `weights` are (channels + 1)x3 float32, and the last row is the offset; colours are -1 to 1.
    """

    weights: torch.Tensor

    @classmethod
    @torch.no_grad()
    def fit(cls, vae: Any, factor: int) -> Colours | None:
        """Fit the map of an autoencoder with `factor` x `factor` pixels per latent.

        Return None if it does not encode pictures as those of the stock pipelines do.
        """
        try:
            pictures = _pictures(factor).to(vae.device, vae.dtype)
            latents = torch.cat([_encode(vae, picture[None]) for picture in pictures])
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return None
        averages = functional.avg_pool2d(pictures.float().cpu(), factor)
        if latents.ndim != 4 or latents.shape[2:] != averages.shape[2:]:
            return None
        inputs = _with_one(latents.float().cpu().movedim(1, -1).flatten(0, 2))
        targets = averages.movedim(1, -1).flatten(0, 2)
        weights = torch.linalg.lstsq(inputs, targets).solution
        return cls(weights) if torch.isfinite(weights).all() else None

    def paint(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Return CxHxW latents as HxWx3 uint8 pixels, scaled down if a side exceeds `LONGEST`."""
        weights = self.weights.to(latents.device)
        colours = (_with_one(latents.float().movedim(0, -1)) @ weights).movedim(-1, 0)
        shrink = max(colours.shape[1:]) / LONGEST
        if shrink > 1:
            height, width = (max(1, round(side / shrink)) for side in colours.shape[1:])
            colours = functional.adaptive_avg_pool2d(colours, (height, width))
        levels = ((colours.nan_to_num() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
        pixels: NDArray[np.uint8] = levels.movedim(0, -1).cpu().numpy()
        return pixels


def expected(
    pipeline: Any, denoiser_input: DenoiserInput, answer: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Return the clean latents (CxHxW) that the denoiser expects for a job's first picture.

    `answer` is the denoiser's answer to `denoiser_input`, `size` the picture's height and width in
    pixels. In guided calls the unguided rows come first, as in the stock pipelines.
    """
    count, rows = len(denoiser_input.noisy), [0]
    if getattr(pipeline, "do_classifier_free_guidance", False) and count % 2 == 0:
        rows.append(count // 2)
    times = denoiser_input.times[rows].cpu()
    noisy, answer = (
        denoiser_input.noisy[rows].float(),
        answer[rows].to(denoiser_input.noisy.device).float(),
    )
    if noisy.ndim == 3:  # Flux packs 2 x 2 latents into one, and counts its time from 0 to 1
        noisy, answer = (
            _unpack(packed, size, pipeline.vae_scale_factor) for packed in (noisy, answer)
        )
        clean = noisy - times[0] * answer
    else:
        # Inpainting denoisers also take a mask; some denoisers also answer with a variance.
        channels = min(noisy.shape[1], answer.shape[1])
        clean = _clean(
            pipeline.scheduler, noisy[:, :channels], answer[:, :channels], float(times[0])
        )
    if len(rows) == 1:
        return clean[0]
    return torch.lerp(clean[0], clean[1], float(pipeline.guidance_scale))


def _clean(scheduler: Any, noisy: torch.Tensor, answer: torch.Tensor, time: float) -> torch.Tensor:
    """Remove the noise.

    "Progressive Distillation" (Salimans and Ho, 2022), appendix D, has the three parametrisations.
    A UNet's input is a mix of `signal` and `noise` whose squares add up to 1, with any scheduler.
    """
    if not hasattr(scheduler, "alphas_cumprod"):  # flow matching
        part = time / float(scheduler.config.num_train_timesteps)
        return noisy - part * answer
    table = scheduler.alphas_cumprod
    square = float(table[min(len(table) - 1, max(0, round(time)))])
    signal, noise = math.sqrt(square), math.sqrt(1 - square)
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return answer
    if kind == "v_prediction":
        return signal * noisy - noise * answer
    return (noisy - noise * answer) / max(signal, SMALLEST_SIGNAL)


def _unpack(packed: torch.Tensor, size: tuple[int, int], factor: int) -> torch.Tensor:
    """Unpack the patches of Flux: rows x patches x 4C to rows x C x H x W."""
    height, width = (side // (2 * factor) for side in size)
    rows, _, channels = packed.shape
    patches = packed.view(rows, height, width, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(rows, channels // 4, 2 * height, 2 * width)


def _pictures(factor: int) -> torch.Tensor:
    """Draw random smooth pictures, Nx3xHxW from -1 to 1: plain colours up to 11 x 11 patches."""
    draw = torch.Generator("cpu").manual_seed(0)
    side = SIDE * factor
    pictures = []
    for number in range(FITTED_ON):
        patches = 1 + number % 6 * 2
        coarse = torch.rand(1, 3, patches, patches, generator=draw) * 2 - 1
        smooth = functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=False)
        pictures.append(smooth[0])
    return torch.stack(pictures)


def _encode(vae: Any, picture: torch.Tensor) -> torch.Tensor:
    """Encode like image-to-image pipelines, but take the distribution's mode, not a sample."""
    encoded = vae.encode(picture)
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    scaled: torch.Tensor = (latents - shift) * vae.config.scaling_factor
    return scaled


def _with_one(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
