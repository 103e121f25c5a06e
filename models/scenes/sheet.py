"""A contact sheet: pictures in rows, each with its caption below."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

MARGIN, CAPTION = 10, 42
INK, PAPER = (40, 40, 40), (255, 255, 255)


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int = 8
) -> Image.Image:
    """Return one picture of all, `columns` wide; a caption takes up to three lines."""
    side = pictures[0].shape[0]
    rows = -(-len(pictures) // columns)
    size = (MARGIN + columns * (side + MARGIN), MARGIN + rows * (side + CAPTION + MARGIN))
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x = MARGIN + index % columns * (side + MARGIN)
        y = MARGIN + index // columns * (side + CAPTION + MARGIN)
        sheet.paste(Image.fromarray(picture), (x, y))
        lines = textwrap.wrap(caption, side // 5)[:3]
        pen.multiline_text((x, y + side + 3), "\n".join(lines), fill=INK, font=font, spacing=1)
    return sheet
