"""Probe: whether a model's pictures stay the same when they are rendered in a batch."""

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

# The largest difference of a pixel, of 255, that rounding may cause; mixed rows differ far more.
TOLERANCE = 3
# In half precision a few pixels differ by more. Their mean difference may be this share of the mean
# difference of the two pictures. (Tiny random pipelines on a CPU: 0.4 % in bf16, 0.1 % in fp16.)
HALF_TOLERANCE = 0.02
STEPS = 3


def batches(model: LoadedModel) -> bool:
    """Whether two different requests give the same pictures in one batch as unbatched."""
    size = 8 * model.size_multiple
    requests = [
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
        batched = _render(model, requests)
        unbatched = [_render(model, [request])[0] for request in requests]
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return False
    differences = [_difference(one, other) for one, other in zip(batched, unbatched, strict=True)]
    if max(difference.max() for difference in differences) <= TOLERANCE:
        return True
    mean = max(float(difference.mean()) for difference in differences)
    return _is_half(model) and mean <= HALF_TOLERANCE * float(_difference(*unbatched).mean())


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int_]:
    difference: NDArray[np.int_] = np.abs(one.astype(int) - other.astype(int))
    return difference


def _is_half(model: LoadedModel) -> bool:
    pipeline = next(iter(model.tasks.values()))
    dtypes = [getattr(pipeline, part).dtype for part in DENOISERS if hasattr(pipeline, part)]
    return any(dtype.itemsize < 4 for dtype in dtypes)


def _render(model: LoadedModel, requests: Sequence[Request]) -> list[np.ndarray]:
    engine = Engine({model.name: model}, choose=everyone)
    for request in requests:
        engine.add(request)
    outcomes: dict[str, Outcome] = {}
    while not engine.idle:
        outcomes |= {outcome.id: outcome for outcome in engine.step()}
    finished = [outcome for outcome in outcomes.values() if isinstance(outcome, Finished)]
    if len(finished) < len(requests):
        raise ValueError(f"the probe got no pictures: {list(outcomes.values())}")
    pictures = {outcome.id: outcome.pixels[0] for outcome in finished}
    return [pictures[request.id] for request in requests]


def everyone(parked: Sequence[Parked], costs: Costs) -> list[str]:
    """Batch all jobs that share the last one's key, whatever it costs (a policy for `Engine`)."""
    del costs
    return [job.job for job in parked if job.key == parked[-1].key]
