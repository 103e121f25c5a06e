"""Contact sheets contain every picture once."""

from __future__ import annotations

import numpy as np
from PIL import Image

from models.scenes.sheet import contact_sheet


def test_every_picture_is_on_the_sheet() -> None:
    """Five pictures in rows of two make three rows, the fifth included."""
    pictures = [np.full((32, 32, 3), (200, 0, n), np.uint8) for n in range(5)]
    sheet = np.asarray(contact_sheet(pictures, ["a red thing"] * 5, columns=2))
    for number in range(5):
        assert (sheet == (200, 0, number)).all(-1).sum() == 32 * 32


def test_a_picture_is_scaled_to_its_cell_and_centred() -> None:
    """A picture of 16 x 8 pixels fills the width of a cell of 64, and half its height."""
    picture = Image.new("RGB", (16, 8), (200, 0, 0))
    sheet = np.asarray(contact_sheet([picture], ["a red thing"], columns=1, cell_px=64))
    red = np.argwhere((sheet == (200, 0, 0)).all(-1))
    assert red.min(0).tolist() == [10 + 16, 10]
    assert red.max(0).tolist() == [10 + 16 + 32 - 1, 10 + 64 - 1]
