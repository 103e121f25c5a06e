"""Faults: what an exception from torch or a pipeline means for the job and for the device."""

from __future__ import annotations

import torch

from workers.engine.request import NotFinite

FULL = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
POISONED = ("CUDA error", "HIP error", "device-side assert", "illegal memory access")


def out_of_memory(error: BaseException) -> bool:
    """Whether fewer rows, or another time, could cure this (out of memory)."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    # CUDA libraries and the CPU allocator report it as a plain RuntimeError.
    return isinstance(error, RuntimeError) and any(sign in text for sign in FULL)


def poisoned(error: BaseException) -> bool:
    """Whether the device cannot be used any more until the process has ended."""
    if out_of_memory(error):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in POISONED)


def code(error: BaseException) -> str:
    """Return the stable code under which a job fails."""
    if out_of_memory(error):
        return "out_of_memory"
    return "not_finite" if isinstance(error, NotFinite) else "render_failed"
