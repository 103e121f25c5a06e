"""View: one job's own pipeline object, on modules that all jobs of the model share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor

from workers.engine.request import NotFinite
from workers.pipelines import preview

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workers.engine.request import Request
    from workers.engine.rows import Call


@dataclass(slots=True, eq=False)
class PipelineView:
    """A pipeline with its own scheduler, and the arguments of its call for `request`."""

    pipeline: Any
    arguments: dict[str, Any]
    request: Request
    colours: Callable[[], preview.Colours | None] | None = None
    _denoiser_input: preview.DenoiserInput | None = field(default=None, init=False)

    @property
    def denoiser_calls(self) -> int | None:
        """The number of timesteps, or None before the loop, where pipelines set `_num_timesteps`.

        Second-order schedulers have more timesteps than steps, a low strength has fewer.
        """
        timesteps: int | None = getattr(self.pipeline, "_num_timesteps", None)
        return timesteps

    def render(self) -> list[NDArray[np.uint8]]:
        """Call the pipeline; return its HxWx3 pictures, equal to those of `output_type="pil"`."""
        images = self.pipeline(**self.arguments, output_type="pt").images
        if not torch.isfinite(images).all():
            raise NotFinite("the pixels hold values that are not finite")
        return list((VaeImageProcessor.pt_to_numpy(images) * 255).round().astype(np.uint8))

    def observe(self, call: Call) -> None:
        """Keep the inputs of a denoiser call that a preview needs."""
        self._denoiser_input = preview.DenoiserInput.of(call)

    def preview(self, answer: torch.Tensor) -> NDArray[np.uint8] | None:
        """Return a small preview of the first picture, without decoding; None if there is none."""
        colours = self.colours() if self._denoiser_input is not None and self.colours else None
        if colours is None or self._denoiser_input is None:
            return None
        size = (self.request.height, self.request.width)
        return colours.paint(preview.expected(self.pipeline, self._denoiser_input, answer, size))
