"""Model: the interface that the engine needs. `workers.pipelines` implements it for pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from workers.engine.request import Request
    from workers.engine.rows import Call


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """A small picture of a job in flight: `pixels` are HxWx3 uint8, taken after `step` steps."""

    step: int
    pixels: NDArray[np.uint8]


class View(Protocol):
    """One job's own pipeline, on modules that all jobs of the model share."""

    @property
    def denoiser_calls(self) -> int | None:
        """How often the pipeline calls the denoiser in total; None until the pipeline knows it."""

    def render(self) -> list[NDArray[np.uint8]]:
        """Run the pipeline and return its pictures, HxWx3. Each call of a module parks (`park`)."""

    def observe(self, call: Call) -> None:
        """Receive each denoiser call before its answer."""

    def preview(self, answer: torch.Tensor) -> NDArray[np.uint8] | None:
        """Return the first picture as `answer` to the last observed call predicts it, or None."""


class Model(Protocol):
    """Renders requests. A model that is not `batched` is served one job at a time."""

    @property
    def name(self) -> str:
        """The name that requests use."""

    @property
    def batched(self) -> bool:
        """Whether its jobs may share forwards."""

    @property
    def encoder_cache_bytes(self) -> int:
        """The limit of its `EncoderCache`."""

    def view(self, request: Request) -> View:
        """Return a view for one job; raise BadRequest if the model cannot serve the request."""
