"""Model: what the engine asks of a model. `workers.pipelines` makes one of any stock pipeline."""

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
    """A picture of a job under way: `pixels` are hxwx3 uint8, as they are after `step` steps."""

    step: int
    pixels: NDArray[np.uint8]


class View(Protocol):
    """One job's own pipeline, on modules that all jobs of its model share."""

    @property
    def denoiser_calls(self) -> int | None:
        """How often the denoiser is called in all; None before the pipeline knows."""

    def render(self) -> list[NDArray[np.uint8]]:
        """Run the pipeline to its pictures, HxWx3. Each call of a module parks (`park`)."""

    def observe(self, call: Call) -> None:
        """Take note of a call of the denoiser that is about to be answered."""

    def preview(self, answer: torch.Tensor) -> NDArray[np.uint8] | None:
        """Return what the first picture looks like by `answer`, to the call seen last, if it can be told."""


class Model(Protocol):
    """What can render requests. One that is not `batched` is served one job at a time."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def batched(self) -> bool:
        """Whether its jobs may share forwards."""

    @property
    def memo_bytes(self) -> int:
        """How much may be remembered of what its encoders answered."""

    def view(self, request: Request) -> View:
        """Return a view for one job; raise BadRequest for what it cannot do."""
