"""Picture files: check the path, write whole or not at all, open with Pillow."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    import PIL.Image


def writable(path: str | os.PathLike[str]) -> Path:
    """Check, before anything is fetched, that the file's folder exists.

    Raises FileNotFoundError.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save {path}: there is no folder {path.parent}")
    return path


def write(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    return part.replace(path)


def pil(data: bytes) -> PIL.Image.Image:
    """Open a picture with Pillow, which the SDK does not need otherwise."""
    try:
        import PIL.Image  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        message = "pil() needs Pillow: pip install 'renderfarm[images]'"
        raise ImportError(message) from error
    return PIL.Image.open(BytesIO(data))
