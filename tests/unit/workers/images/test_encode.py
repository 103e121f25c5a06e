"""Encoding and decoding of image files."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workers.errors import RenderFailed
from workers.images.encode import CONTENT_TYPES, decode, encode

PIXELS = (np.arange(24 * 16 * 3) % 256).astype(np.uint8).reshape(24, 16, 3)


def url(data: bytes) -> str:
    """Return the bytes as a data URL."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_each_format_holds_the_picture(kind: str) -> None:
    """The file has the requested format and the picture's size."""
    with Image.open(io.BytesIO(encode(PIXELS, kind))) as picture:
        assert picture.format is not None
        assert (picture.format.lower(), picture.size) == (kind, (16, 24))


def test_a_png_decodes_to_the_same_pixels() -> None:
    """PNG is lossless in both directions."""
    assert np.array_equal(np.asarray(decode(url(encode(PIXELS, "png")), "image", "RGB")), PIXELS)


def test_a_picture_is_converted_to_the_requested_mode() -> None:
    """From any file, a mask is grey and an image has three channels."""
    sent = io.BytesIO()
    Image.new("RGBA", (3, 2), (255, 0, 0, 128)).save(sent, "PNG")
    assert decode(url(sent.getvalue()), "mask", "L").mode == "L"
    assert decode(url(sent.getvalue()), "image", "RGB").mode == "RGB"


@pytest.mark.parametrize(("width", "height"), [(4097, 4096), (20_000, 20_000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    """A size above the limit is `bad_image`, before a pixel is decoded."""
    with pytest.raises(RenderFailed, match="image") as caught:
        decode(url(bomb(width, height)), "image", "RGB")
    assert caught.value.code == "bad_image"


@pytest.mark.parametrize(
    "text",
    ["", "data:image/png", "data:image/png;base64,", "data:image/png;base64,%%%",
     url(b"GIF89a"), url(b"<svg/>"), url(encode(PIXELS, "png")[:60]), url(bomb(64, 64))],
)  # fmt: skip
def test_a_file_that_is_no_picture_is_refused(text: str) -> None:
    """A text that is no picture, or a truncated one, is `bad_image`; the error names the field."""
    with pytest.raises(RenderFailed, match="mask: ") as caught:
        decode(text, "mask", "L")
    assert caught.value.code == "bad_image"


FILES = [encode(PIXELS, kind) for kind in CONTENT_TYPES]


@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_picture_is_read_or_refused(file: bytes, changes: list[tuple[int, int]]) -> None:
    """No damage raises anything except `bad_image`."""
    damaged = bytearray(file)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    try:
        picture = decode(url(bytes(damaged)), "image", "RGB")
    except RenderFailed as error:
        assert error.code == "bad_image"  # noqa: PT017 - either outcome is right
    else:
        assert picture.mode == "RGB"
