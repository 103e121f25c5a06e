"""Pixels to files and back, in the slot's own thread so that the device never waits for it."""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from workers.runtime import RenderFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_OPTIONS: dict[str, dict[str, int]] = {
    "png": {"compress_level": 4},
    "jpeg": {"quality": 92},
    "webp": {"quality": 90},
}
INPUT_FORMATS = ("PNG", "JPEG", "WEBP")
LIMIT_PIXELS = 4096 * 4096


def encode(pixels: NDArray[np.uint8], output_format: str) -> bytes:
    """A HxWx3 uint8 array as a file of that format."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer, "JPEG" if output_format == "jpeg" else output_format, **_OPTIONS[output_format]
    )
    return buffer.getvalue()


def decode(data_url: str, field: str, mode: str) -> Image.Image:
    """A data URL as a picture of that mode; RenderFailed `bad_image` for what is none.

    The size is read off the header and refused before a pixel is decoded, so a small file cannot
    unfold into gigabytes.
    """
    try:
        raw = base64.b64decode(data_url.partition(",")[2], validate=True)
        picture = Image.open(io.BytesIO(raw), formats=INPUT_FORMATS)
        if picture.width * picture.height > LIMIT_PIXELS:
            raise RenderFailed(
                "bad_image", f"{field}: {picture.width}x{picture.height} is too large"
            )
        return picture.convert(mode)
    except Image.DecompressionBombError as error:
        raise RenderFailed("bad_image", f"{field}: {error}") from error
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise RenderFailed("bad_image", f"{field}: not a readable picture") from error
