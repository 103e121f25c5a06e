"""The models' tests draw the same random numbers each time; one small model serves all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.unit.models.program import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Chance is the same in every run, whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model made by the shortest preset."""
    folder = tmp_path_factory.mktemp("scenes")
    run(folder, "--out", str(folder / "model"))
    return folder
