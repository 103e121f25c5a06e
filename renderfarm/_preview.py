"""A preview of a running job, from its events."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from renderfarm import _files

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import PIL.Image


@dataclass(frozen=True, slots=True)
class Preview:
    """A small picture of what the job's first image will look like; it has already arrived."""

    data: bytes
    content_type: str

    @classmethod
    def from_data_url(cls, url: str) -> Self:
        """Read `data:image/webp;base64,...`. Raises ValueError."""
        head, comma, body = url.partition(",")
        if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
            raise ValueError(f"not a picture in a data URL: {url[:40]!r}")
        content_type = head.removeprefix("data:").removesuffix(";base64")
        return cls(base64.b64decode(body, validate=True), content_type)

    def bytes(self) -> bytes:
        """Return the file's bytes."""
        return self.data

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file, whole or not at all, into a folder that exists. Return its path."""
        return _files.write(_files.writable(path), self.data)

    def pil(self) -> PIL.Image.Image:
        """Open with Pillow (`pip install 'renderfarm[images]'`)."""
        return _files.pil(self.data)

    def __repr__(self) -> str:
        return f"<Preview {self.content_type} {len(self.data)} bytes>"
