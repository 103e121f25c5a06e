"""The autoencoder: 8 x 8 pixels become one latent of four channels.

The encoder is linear. By construction, its first three channels are the exact averages of red,
green and blue over each 8 x 8 block, centred and scaled; only the fourth channel is learned. So
latents are smooth, similar for similar pictures, and fixed from the start. The decoder does the
work: it draws crisp edges from averages.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

CENTRE, SPREAD = 0.5, 0.4
"""Averages become latents by (average - CENTRE) / SPREAD, with about unit variance."""
FIXED = 3
"""The channels that are set by hand."""


def build(width: int = 32, encoder_width: int = 16) -> AutoencoderTiny:
    """Return an untrained autoencoder whose first three latent channels are already exact."""
    autoencoder = AutoencoderTiny(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        encoder_block_out_channels=(encoder_width,) * 4,
        decoder_block_out_channels=(width,) * 4,
        num_encoder_blocks=(0, 0, 0, 0),
        num_decoder_blocks=(4, 4, 2, 1),
        scaling_factor=1.0,
    )
    _set_averages(autoencoder)
    keep_averages(autoencoder)
    return autoencoder


@torch.no_grad()
def _set_averages(autoencoder: AutoencoderTiny) -> None:
    first, *halving, last = autoencoder.encoder.layers
    for convolution in (first, *halving, last):
        convolution.weight[:FIXED] = 0
    for channel in range(FIXED):
        first.weight[channel, channel, 1, 1] = 1
        for convolution in halving:
            convolution.weight[channel, channel, 1:, 1:] = 0.25
        last.weight[channel, channel, 1, 1] = 1 / SPREAD
    first.bias[:FIXED] = 0
    last.bias[:FIXED] = -CENTRE / SPREAD


def keep_averages(autoencoder: AutoencoderTiny) -> None:
    """Exclude the channels that are set by hand from training."""
    for parameter in autoencoder.encoder.parameters():
        parameter.register_hook(_spare)


def _spare(gradient: Tensor) -> Tensor:
    spared = gradient.clone()
    spared[:FIXED] = 0
    return spared


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Return L1 plus squared error, both (n, 3, h, w) in [-1, 1], weighted more near edges."""
    error = decoded.float() - pictures
    return ((error.abs() + 2 * error.square()) * (0.5 + 3 * edges(pictures))).mean()


def edges(pictures: Tensor) -> Tensor:
    """Return 1 within two pixels of a change of colour, else 0, (n, 1, h, w).

    Pictures in [-1, 1].
    """
    high = torch.nn.functional.max_pool2d(pictures, 5, 1, 2)
    low = -torch.nn.functional.max_pool2d(-pictures, 5, 1, 2)
    return ((high - low).amax(1, keepdim=True) > 0.25).float()


def outlines(pictures: Tensor) -> Tensor:
    """Return the ControlNet's input: edges of pictures in [0, 1], white on black, (n, 3, h, w)."""
    return edges(pictures * 2 - 1).expand(-1, 3, -1, -1)


def edge_windows(pictures: Tensor, side: int) -> list[tuple[slice, slice]]:
    """Return a square of `side` latents around a random edge of each picture, in cells."""
    cells = torch.nn.functional.max_pool2d(edges(pictures), 8).flatten(1) + 1e-4
    width = pictures.shape[-1] // 8
    windows = []
    for centre in torch.multinomial(cells, 1)[:, 0].tolist():
        top, left = (min(max(0, at - side // 2), width - side) for at in divmod(centre, width))
        windows.append((slice(top, top + side), slice(left, left + side)))
    return windows


def cut_outs(pictures: Tensor, windows: list[tuple[slice, slice]]) -> tuple[Tensor, Tensor]:
    """Return the windows' pixels, and which of them to judge: not those next to a cut.

    A decoder that cannot see past the cut cannot know them; at the picture's border it can.
    """
    last = pictures.shape[-1]
    cuts, judged = [], []
    for picture, window in zip(pictures, windows, strict=True):
        rows, columns = (slice(8 * part.start, 8 * part.stop) for part in window)
        inner = torch.zeros_like(picture[:1], dtype=torch.bool)
        inner[
            :,
            rows.start + 8 * (rows.start > 0) : rows.stop - 8 * (rows.stop < last),
            columns.start + 8 * (columns.start > 0) : columns.stop - 8 * (columns.stop < last),
        ] = True
        cuts.append(picture[:, rows, columns])
        judged.append(inner[:, rows, columns])
    return torch.stack(cuts), torch.stack(judged)


def noisy(latents: Tensor, most: float = 0.15, learned: float = 0.5) -> Tensor:
    """Add the noise that a denoiser leaves in latents: each picture with its own amount.

    The learned channel, which denoisers learn last, often has more of it.
    """
    shape, device = (len(latents), 1, 1, 1), latents.device
    sigma = (most * torch.rand(shape, device=device)).repeat(1, latents.shape[1], 1, 1)
    often = torch.rand(shape, device=device) < 0.7
    sigma[:, FIXED:] += often * learned * torch.rand(shape, device=device)
    return latents + sigma * torch.randn_like(latents)
