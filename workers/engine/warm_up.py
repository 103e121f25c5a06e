"""Warm-up: measures T(rows) of a call, in growing sizes, before any job waits for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from workers.engine.rows import bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.engine.cost import Costs
    from workers.engine.rows import Call

# Twice the rows are tried as long as that makes each row cheaper by at least this share.
WORTHWHILE = 0.05
# The forwards of each size: the first is ignored, two are measured.
REPEATS = 3


def measure(
    call: Call,
    costs: Costs,
    run: Callable[[Sequence[Call]], list[Any]],
    expired: Callable[[], bool],
) -> Any:
    """Run a call, batched with copies of itself, in unmeasured sizes; return its answer.

    `run` runs a group as one forward. `expired` ends the measurement, except for a compiled method:
    it is compiled for all sizes, however long that takes.
    """
    answer = run([call])[0]
    count, best_s, compiled = 1, math.inf, call.method.bucketed
    if compiled and call.rows > 1 and not call.method.unbatched:
        run([call.split()[0]])
    while not (call.method.unbatched or isinstance(answer, Exception)):
        total, most = count * call.rows, costs.limit(call.signature)
        if total > (bucket(most) if compiled else most):
            break
        if expired() and not compiled:
            break
        for _ in range(0 if total in costs.measured(call.signature) else REPEATS):
            run([call] * count)
        row_s = costs.seconds(call.signature, total) / total
        if row_s > best_s * (1 - WORTHWHILE) and not compiled:
            break
        count, best_s = count * 2, row_s
    return answer
