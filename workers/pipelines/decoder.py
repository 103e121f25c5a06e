"""SmallDecoder: a distilled autoencoder such as TAESD decodes instead of a model's own.

It is faster and less exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import AutoencoderTiny

from workers.engine.request import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    import torch


class SmallDecoder:
    """Decodes the latents of `vae` with `tiny`, an AutoencoderTiny for the same latents."""

    def __init__(self, tiny: Any, vae: Any) -> None:
        channels = tiny.config.latent_channels, vae.config.latent_channels
        if channels[0] != channels[1]:
            raise EngineError(
                f"the decoder is for {channels[0]} latent channels, the model has {channels[1]}"
            )
        self.module = tiny
        self._vae_config = vae.config

    def decode(self, z: torch.Tensor, return_dict: bool = True) -> Any:  # noqa: FBT001, FBT002 - diffusers' form
        """Decode NxCxHxW latents as `vae` would; the pixels are Nx3xHxW from -1 to 1.

        Pipelines remove the model's own scale and shift before they decode; this adds them again.
        """
        scaled = (z - _shift(self._vae_config)) * self._vae_config.scaling_factor
        small = scaled / self.module.config.scaling_factor + _shift(self.module.config)
        return self.module.decode(small.to(self.module.dtype), return_dict=return_dict)


def load_decoder(folder: Path, dtype: torch.dtype) -> Any:
    """Load an AutoencoderTiny from a diffusers folder."""
    return AutoencoderTiny.from_pretrained(folder, dtype=dtype, local_files_only=True)


def _shift(config: Any) -> float:
    return float(getattr(config, "shift_factor", None) or 0.0)
