"""Model: the interface between the engine and a model. `workers.pipelines` implements it."""

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
    """A preview of a running job: `pixels` are hxwx3 uint8, the state after `step` steps."""

    step: int
    pixels: NDArray[np.uint8]


class View(Protocol):
    """One job's own pipeline, on modules that all jobs of its model share."""

    @property
    def denoiser_calls(self) -> int | None:
        """How many denoiser calls the job makes in all; None before the pipeline knows."""

    def render(self) -> list[NDArray[np.uint8]]:
        """Run the pipeline to its pictures, HxWx3. Each call of a module parks (`park`)."""

    def observe(self, call: Call) -> None:
        """Remember a denoiser call that is about to be answered, for the preview."""

    def preview(self, answer: torch.Tensor) -> NDArray[np.uint8] | None:
        """Return a preview of the first picture from `answer`, the last observed call's result."""


class Model(Protocol):
    """A model that renders requests. If it is not `batched`, its jobs run one at a time."""

    @property
    def name(self) -> str:
        """The name by which requests ask for it."""

    @property
    def batched(self) -> bool:
        """Whether its jobs may share forwards."""

    @property
    def memo_bytes(self) -> int:
        """The limit of its encoder cache, in bytes."""

    def view(self, request: Request) -> View:
        """Return a view for one job; raise BadRequest for a request that it cannot render."""
