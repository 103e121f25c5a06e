"""Every test of the model draws the same random numbers each time."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Chance is the same in every run, whatever ran before."""
    torch.manual_seed(0)
