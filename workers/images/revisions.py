"""Revisions: the hash of this worker's model files, part of the result cache's key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.catalog.revision import LORA_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from app.catalog.entries import Model

CHANGED = "+changed"


class Revisions:
    """The revisions of a worker's models, determined when the worker starts.

    All files except LoRAs are read at the start. A LoRA is read when a request first names it, and
    again after it was removed from memory. If its file was replaced meanwhile, it is unknown
    which of the two files rendered a picture.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models
        self._stamps = {
            name: {lora: _stamp(folder) for lora, folder in model.loras.items()}
            for name, model in models.items()
        }

    def of(self, request: Mapping[str, Any]) -> str | None:
        """Return the revision for a request; None if this worker does not serve its model.

        It ends in `+changed` if a LoRA that the request names has another file than at the start.
        Such a revision matches no earlier or later picture.
        """
        model = self._models.get(request["model"])
        if model is None:
            return None
        named = {lora["name"] for lora in request.get("loras", ())} & model.loras.keys()
        stamps = self._stamps[model.name]
        changed = any(_stamp(model.loras[lora]) != stamps[lora] for lora in named)
        return model.revision + (CHANGED if changed else "")


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    """Identify a LoRA's file without reading it (inode, bytes, mtime); None if missing."""
    try:
        status = (folder / LORA_FILE).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
