"""Faults: what an exception from torch or a pipeline means for the job and for the device."""

from __future__ import annotations

import torch

from workers.engine.request import NotFinite

OUT_OF_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
POISONED_SIGNS = ("CUDA error", "HIP error", "device-side assert", "illegal memory access")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, so that fewer rows or a later attempt may succeed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    # CUDA libraries and the CPU allocator report it as a plain RuntimeError.
    return isinstance(error, RuntimeError) and any(sign in text for sign in OUT_OF_MEMORY_SIGNS)


def poisoned(error: BaseException) -> bool:
    """Whether the device fails every later call of this process."""
    if out_of_memory(error):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in POISONED_SIGNS)


def code(error: BaseException) -> str:
    """Return the stable error code of a job that failed with this exception."""
    if out_of_memory(error):
        return "out_of_memory"
    return "not_finite" if isinstance(error, NotFinite) else "render_failed"
