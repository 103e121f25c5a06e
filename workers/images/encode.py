"""Pixels to files and back, in the slot's own thread so that the device never waits for it."""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from workers.errors import RenderFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workers.images.provenance import Provenance

CONTENT_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
}
QUALITY = {"jpeg": 92, "webp": 90, "avif": 75}
"""Where the request names none. PNG loses nothing, so it has none."""
INPUT_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
LIMIT_PIXELS = 4096 * 4096


def encode(
    pixels: NDArray[np.uint8],
    output_format: str,
    quality: int | None = None,
    provenance: Provenance | None = None,
) -> bytes:
    """A HxWx3 uint8 array as a file of that format, saying how it was made if that is given."""
    buffer = io.BytesIO()
    options: dict[str, Any] = provenance.options(output_format) if provenance else {}
    if output_format == "png":
        options["compress_level"] = 4
    else:
        options["quality"] = quality or QUALITY[output_format]
    if output_format == "avif":
        options["max_threads"] = 1  # slots are threads already, and the device has the other cores
    Image.fromarray(pixels).save(buffer, output_format.upper(), **options)
    return buffer.getvalue()


UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, RuntimeError)
"""What Pillow's plugins raise over a damaged file; AVIF's raises `RuntimeError`."""


def decode(data_url: str, field: str, mode: str) -> Image.Image:
    """A data URL as a picture of that mode; RenderFailed `bad_image` for what is none."""
    try:
        raw = base64.b64decode(data_url.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RenderFailed("bad_image", f"{field}: not a readable picture") from error
    return read(raw, field, mode)


def read(raw: bytes, field: str, mode: str) -> Image.Image:
    """A file's bytes as a picture of that mode; RenderFailed `bad_image` for what is none.

    The size is read off the header and refused before a pixel is decoded, so a small file cannot
    unfold into gigabytes.
    """
    try:
        picture = Image.open(io.BytesIO(raw), formats=INPUT_FORMATS)
        if picture.width * picture.height > LIMIT_PIXELS:
            raise RenderFailed(
                "bad_image", f"{field}: {picture.width}x{picture.height} is too large"
            )
        return picture.convert(mode)
    except Image.DecompressionBombError as error:
        raise RenderFailed("bad_image", f"{field}: {error}") from error
    except UNREADABLE as error:
        raise RenderFailed("bad_image", f"{field}: not a readable picture") from error
