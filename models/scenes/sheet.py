"""Contact sheet: pictures in rows, each with its caption below."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

MARGIN = 10
INK, PAPER = (40, 40, 40), (255, 255, 255)
CAPTION_LINES = 3
CAPTION_HEIGHT = 4.2
"""Height of a caption, in sizes of its font."""


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8] | Image.Image],
    captions: Sequence[str],
    columns: int = 8,
    *,
    cell_px: int | None = None,
    font_px: int = 10,
) -> Image.Image:
    """Draw all pictures into one, `columns` wide; a caption has up to three lines.

    Arrays have the shape (height, width, 3). Each picture is scaled to fit a square of `cell_px`
    pixels and drawn in its centre. None: the square is as wide as the first picture, and nothing is
    scaled.
    """
    images = [each if isinstance(each, Image.Image) else Image.fromarray(each) for each in pictures]
    side = cell_px or images[0].width
    caption_px = round(CAPTION_HEIGHT * font_px)
    rows = -(-len(images) // columns)
    size = (MARGIN + columns * (side + MARGIN), MARGIN + rows * (side + caption_px + MARGIN))
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=font_px)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = MARGIN + index % columns * (side + MARGIN)
        y = MARGIN + index // columns * (side + caption_px + MARGIN)
        picture = image if cell_px is None else fitted(image, cell_px)
        sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
        lines = textwrap.wrap(caption, 2 * side // font_px)[:CAPTION_LINES]
        pen.multiline_text((x, y + side + 3), "\n".join(lines), fill=INK, font=font, spacing=1)
    return sheet


def fitted(image: Image.Image, side_px: int) -> Image.Image:
    """Scale a picture, in its proportions, so that its longer side has `side_px` pixels."""
    scale = side_px / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
