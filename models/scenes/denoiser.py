"""The denoiser: a small conditional UNet, its training data, and its moving average."""

from __future__ import annotations

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from models.scenes.precision import onto

TRAIN_STEPS = 1000
EVENLY, NEARLY_NOISE = 0.3, 0.45
"""Shares of the batch whose timestep is drawn uniformly, and from the last fifth."""
CHANNELS = (1.0, 1.0, 1.0, 0.3)
"""The weight of each latent channel. The fourth, which the autoencoder learned, is full of detail:
with equal weights it would be more than half of the loss.
"""


def build(text_width: int = 128) -> UNet2DConditionModel:
    """Return an untrained denoiser.

    The words reach it twice: by attention at 8 x 8 and 4 x 4, and pooled into the timestep's
    embedding, which scales and shifts every layer. Facts about the whole picture (backdrop, count,
    arrangement) are learned many times sooner in this way.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(96, 128, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=(3, 4, 5),
        norm_num_groups=16,
        addition_embed_type="text",
        resnet_time_scale_shift="scale_shift",
    )


def build_scheduler() -> EulerDiscreteScheduler:
    """The sampler that ships; others are made from its configuration."""
    return EulerDiscreteScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def plain_attention(unet: UNet2DConditionModel) -> None:
    """Use matrix products for attention: on CPUs the fused kernel's backward pass is slower."""
    unet.set_attn_processor(AttnProcessor())


class Lesson:
    """The denoiser's training examples, and the weights of their errors.

    Timesteps near pure noise, where everything comes from the words, are the most frequent; those
    between the extremes are more frequent than uniform, as in arXiv:2403.03206, because outlines
    are decided there. Cells that differ from the backdrop weigh more, because things are few cells
    among many.
    """

    def __init__(self, device: torch.device | str) -> None:
        kept = build_scheduler().alphas_cumprod.to(device)
        self.signal, self.noise = kept.sqrt(), (1 - kept).sqrt()

    def ask(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return noised latents, their timesteps and the velocities to predict."""
        steps = onto(self._steps(len(latents)), latents.device)
        signal, noise = (table[steps].view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        drawn = torch.randn_like(latents)
        return signal * latents + noise * drawn, steps, signal * drawn - noise * latents

    @staticmethod
    def _steps(count: int) -> Tensor:
        between = torch.sigmoid(0.85 * torch.randn(count) - 0.15)
        kind, even = torch.rand(count), torch.rand(count)
        at = torch.where(kind < EVENLY, even, between)
        at = torch.where(kind > 1 - NEARLY_NOISE, 1 - even / 5, at)
        return (at * TRAIN_STEPS).long().clamp(max=TRAIN_STEPS - 1)

    @staticmethod
    def loss(answers: Tensor, velocities: Tensor, latents: Tensor, extra: float) -> Tensor:
        """Return the squared error, a scalar; cells off the backdrop count 1 + `extra` times."""
        backdrop = latents.flatten(2).median(2).values[..., None, None]
        stands_out = (latents - backdrop).abs().amax(1, keepdim=True) > 0.5
        channels = torch.tensor(CHANNELS, device=latents.device).view(1, -1, 1, 1)
        error = (answers.float() - velocities).square() * channels
        return (error * (1 + extra * stands_out)).mean()


class Average:
    """An exponential moving average (EMA) of weights; this is what ships."""

    def __init__(self, source: list[nn.Parameter], decay: float = 0.98) -> None:
        self.source: list[Tensor] = [*source]
        self.decay = decay
        self.weights = [weight.detach().clone() for weight in source]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the source; early steps move further."""
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.weights, self.source, 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the averaged weights to the source."""
        for parameter, weight in zip(self.source, self.weights, strict=True):
            parameter.copy_(weight)
