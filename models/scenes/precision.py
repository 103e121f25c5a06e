"""Which number format trains fastest here: found by trying, for processors differ several-fold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Run matrix products and convolutions in `dtype`; float32 changes nothing."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def fastest(loss: Callable[[], Tensor], device: torch.device) -> torch.dtype:
    """bfloat16 or float32, whichever takes a loss and its gradients sooner; on CUDA bfloat16.

    The gradients are left as they were made: clear them before the first real step.
    """
    if device.type == "cuda":
        return torch.bfloat16
    spent_s = {dtype: _spent_s(loss, device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(spent_s, key=spent_s.__getitem__)


def _spent_s(loss: Callable[[], Tensor], device: torch.device, dtype: torch.dtype) -> float:
    """The shortest of three tries, after one that warms up."""
    tries = []
    for _ in range(4):
        began = time.perf_counter()
        with autocast(device, dtype):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        tries.append(time.perf_counter() - began)
    return min(tries[1:])
