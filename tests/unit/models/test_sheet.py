"""Contact sheets hold every picture once."""

from __future__ import annotations

import numpy as np

from models.scenes.sheet import contact_sheet


def test_every_picture_is_on_the_sheet() -> None:
    """Five pictures in rows of two make three rows, the fifth included."""
    pictures = [np.full((32, 32, 3), (200, 0, n), np.uint8) for n in range(5)]
    sheet = np.asarray(contact_sheet(pictures, ["a red thing"] * 5, columns=2))
    for number in range(5):
        assert (sheet == (200, 0, number)).all(-1).sum() == 32 * 32
