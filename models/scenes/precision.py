"""Number formats: which one trains fastest here, found by measuring."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Run matrix products and convolutions in `dtype`; float32 changes nothing."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on that device, without waiting for the device's queue."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def fastest(device: torch.device) -> torch.dtype:
    """Return bfloat16 or float32, the one that trains a denoiser's block faster.

    On CUDA bfloat16.
    """
    if device.type == "cuda":
        return torch.bfloat16
    spent_s = {dtype: _spent_s(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(spent_s, key=spent_s.__getitem__)


def _spent_s(device: torch.device, dtype: torch.dtype) -> float:
    """Return the shortest of five runs of one block's output and gradients, after a warm-up run."""
    block = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.SiLU(), nn.Conv2d(128, 128, 1))
    block.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given = torch.randn(32, 128, 16, 16, device=device).to(memory_format=torch.channels_last)
    tries = []
    for _ in range(6):
        began = time.perf_counter()
        with autocast(device, dtype):
            answer = block(given)
        answer.float().square().mean().backward()
        tries.append(time.perf_counter() - began)
    return min(tries[1:])
