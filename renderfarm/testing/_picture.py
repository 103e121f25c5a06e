"""A real PNG without Pillow: one plain colour, derived from the prompt and the seed."""

from __future__ import annotations

import hashlib
import struct
import zlib


def png(width: int, height: int, prompt: str, seed: int) -> bytes:
    """Return the file. Equal arguments give equal bytes.

    See the PNG specification, sections 5, 11.
    """
    colour = hashlib.sha256(f"{seed} {prompt}".encode()).digest()[:3]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + colour * width) * height
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
