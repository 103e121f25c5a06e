"""Encoding and decoding of image files, in the slot's thread so that the device does not wait."""

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
"""The default if the request sets none. PNG is lossless and has no quality."""
INPUT_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
LIMIT_PIXELS = 4096 * 4096


def encode(
    pixels: NDArray[np.uint8],
    output_format: str,
    quality: int | None = None,
    provenance: Provenance | None = None,
) -> bytes:
    """Encode a HxWx3 uint8 array; the file contains `provenance` if it is given."""
    buffer = io.BytesIO()
    options: dict[str, Any] = provenance.options(output_format) if provenance else {}
    if output_format == "png":
        options["compress_level"] = 4
    else:
        options["quality"] = quality or QUALITY[output_format]
    if output_format == "avif":
        options["max_threads"] = (
            1  # slots run in parallel already, and the device needs the other cores
        )
    Image.fromarray(pixels).save(buffer, output_format.upper(), **options)
    return buffer.getvalue()


UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, RuntimeError)
"""What Pillow's plugins raise for a damaged file; the AVIF plugin raises `RuntimeError`."""


def decode(data_url: str, field: str, mode: str) -> Image.Image:
    """Decode a data URL to a picture in `mode`. Raises RenderFailed `bad_image`."""
    try:
        raw = base64.b64decode(data_url.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RenderFailed("bad_image", f"{field}: not a readable image file") from error
    return read(raw, field, mode)


def read(raw: bytes, field: str, mode: str) -> Image.Image:
    """Decode a file to a picture in `mode`. Raises RenderFailed `bad_image`.

    The size in the header is checked before any pixel is decoded, so a small file cannot expand to
    gigabytes (a decompression bomb).
    """
    try:
        picture = Image.open(io.BytesIO(raw), formats=INPUT_FORMATS)
        if picture.width * picture.height > LIMIT_PIXELS:
            raise RenderFailed(
                "bad_image", f"{field}: {picture.width}x{picture.height} pixels is too large"
            )
        return picture.convert(mode)
    except Image.DecompressionBombError as error:
        raise RenderFailed("bad_image", f"{field}: {error}") from error
    except UNREADABLE as error:
        raise RenderFailed("bad_image", f"{field}: not a readable image file") from error
