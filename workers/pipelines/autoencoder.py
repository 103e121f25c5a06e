"""AutoencoderProxy: parks `encode` and `decode`, which pipelines call instead of `forward`."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from workers.engine.park import Proxy, park
from workers.engine.request import NotFinite

# The decoders that document `generator` as unused. In a call, it would tie the call to its job.
DETERMINISTIC_DECODERS = (AutoencoderKL, AutoencoderTiny)


class AutoencoderProxy(Proxy):
    """A proxy of an autoencoder, whose precision may be higher than the pipeline's."""

    def encode(self, pixels: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Park with pixels to encode."""
        return park(self._methods["encode"], pixels.to(self._module.dtype), *args, **kwargs)

    def decode(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Park with latents to decode; raise NotFinite for NaN and infinity before and after it.

        The check of the latents saves a decode. The check of the pixels is here because pipelines
        clamp an infinity to black or white afterwards. Both wait for the device.
        """
        if not torch.isfinite(latents).all():
            raise NotFinite("the latents hold values that are not finite")
        if isinstance(self._module, DETERMINISTIC_DECODERS):
            kwargs.pop("generator", None)
        decoded = park(self._methods["decode"], latents.to(self._module.dtype), *args, **kwargs)
        if not torch.isfinite(decoded[0]).all():
            raise NotFinite("the pixels hold values that are not finite")
        return decoded
