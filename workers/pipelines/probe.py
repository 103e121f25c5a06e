"""Probe (self-test): whether a model's pictures are the same when they are rendered together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workers.engine.engine import Engine
from workers.engine.request import Finished, Request
from workers.pipelines.model import DENOISERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workers.engine.cost import Costs
    from workers.engine.policy import Parked
    from workers.engine.request import Outcome
    from workers.pipelines.model import LoadedModel

# Rounding may move a pixel a little. Requests that get mixed up in one batch move it far.
TOLERANCE = 3
# In half precision rounding moves pixels further, but few: on average by a small part of the
# distance between the two pictures. (Tiny random pipelines on a CPU: 0.4 % in bf16, 0.1 % in fp16.)
HALF_TOLERANCE = 0.02
STEPS = 3


def batches(model: LoadedModel) -> bool:
    """Whether two unlike requests, rendered together, each give the same picture as alone."""
    size = 8 * model.size_multiple
    asked = [
        Request(
            id=prompt,
            model=model.name,
            prompt=prompt,
            width=size,
            height=size,
            num_inference_steps=STEPS + number,
            guidance_scale=3.0 + number,
            seed=number,
        )
        for number, prompt in enumerate(("a red circle", "nine grey birds"))
    ]
    try:
        together = _render(model, asked)
        alone = [_render(model, [one])[0] for one in asked]
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return False
    off = [_apart(one, other) for one, other in zip(together, alone, strict=True)]
    if max(apart.max() for apart in off) <= TOLERANCE:
        return True
    mean = max(float(apart.mean()) for apart in off)
    return _is_half(model) and mean <= HALF_TOLERANCE * float(_apart(*alone).mean())


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int_]:
    apart: NDArray[np.int_] = np.abs(one.astype(int) - other.astype(int))
    return apart


def _is_half(model: LoadedModel) -> bool:
    pipeline = next(iter(model.tasks.values()))
    found = [getattr(pipeline, part).dtype for part in DENOISERS if hasattr(pipeline, part)]
    return any(dtype.itemsize < 4 for dtype in found)


def _render(model: LoadedModel, asked: Sequence[Request]) -> list[np.ndarray]:
    engine = Engine({model.name: model}, choose=everyone)
    for one in asked:
        engine.add(one)
    ended: dict[str, Outcome] = {}
    while not engine.idle:
        ended |= {outcome.id: outcome for outcome in engine.step()}
    pictures = [outcome.pixels[0] for outcome in ended.values() if isinstance(outcome, Finished)]
    if len(pictures) < len(asked):
        raise ValueError(f"no pictures, but {list(ended.values())}")
    return [ended[one.id].pixels[0] for one in asked]  # type: ignore[union-attr]


def everyone(parked: Sequence[Parked], costs: Costs) -> list[str]:
    """Stack everything that can be stacked, whatever it costs."""
    del costs
    return [job.job for job in parked if job.key == parked[-1].key]
