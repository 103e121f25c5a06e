"""The autoencoder's proxy. Pipelines call it by `encode` and `decode`, unlike other modules."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from workers.engine.park import Proxy, park
from workers.engine.request import NotFinite

# These decoders document `generator` as unused. Elsewhere it would tie each call to its job.
DETERMINISTIC_DECODERS = (AutoencoderKL, AutoencoderTiny)


class AutoencoderProxy(Proxy):
    """An autoencoder that parks at `encode` and `decode`; it may have a higher precision."""

    def encode(self, pixels: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Park with pixels to encode."""
        return park(self._entries["encode"], pixels.to(self._module.dtype), *args, **kwargs)

    def decode(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Park with latents to decode. NaN latents end their job here, before they cost a decode.

        So do pixels that are not finite: the code after it would clamp an infinity to black or
        white. This waits for the device, for each job.
        """
        if not torch.isfinite(latents).all():
            raise NotFinite("the latents hold values that are not finite")
        if isinstance(self._module, DETERMINISTIC_DECODERS):
            kwargs.pop("generator", None)
        decoded = park(self._entries["decode"], latents.to(self._module.dtype), *args, **kwargs)
        if not torch.isfinite(decoded[0]).all():
            raise NotFinite("the pixels hold values that are not finite")
        return decoded
