"""Faults: the error code of an exception, and whether the device is poisoned."""

from __future__ import annotations

import pytest
import torch

from workers.engine import faults
from workers.engine.request import NotFinite


@pytest.mark.parametrize(
    ("error", "code", "poisoned"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out_of_memory", False),
        (torch.AcceleratorError("CUDA error: out of memory"), "out_of_memory", False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory", False),
        (MemoryError(), "out_of_memory", False),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
            "out_of_memory",
            False,
        ),
        (torch.AcceleratorError("an illegal instruction"), "render_failed", True),
        (RuntimeError("CUDA error: device-side assert triggered"), "render_failed", True),
        (RuntimeError("shapes cannot be multiplied"), "render_failed", False),
        (ValueError("CUDA error: a text from a prompt"), "render_failed", False),
        (NotFinite("NaN"), "not_finite", False),
    ],
)
def test_an_error_has_a_code_or_poisons_the_device(
    error: Exception, code: str, *, poisoned: bool
) -> None:
    """Out of memory can be retried, a poisoned device cannot; other errors are the job's own."""
    assert faults.poisoned(error) is poisoned
    if not poisoned:
        assert faults.code(error) == code
