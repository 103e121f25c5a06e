"""The training program, called as from the command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from models.scenes import finish, train

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, *options: str) -> None:
    """Make or teach the smallest model, with checkpoints in the folder's `work`."""
    with pytest.MonkeyPatch.context() as patch:
        given = ["train", "--preset", "smoke", "--work", str(folder / "work"), *options]
        patch.setattr(sys, "argv", given)
        patch.setattr(finish, "AT_FIRST", 1)  # its own sampling is most of the work otherwise
        train.main()
