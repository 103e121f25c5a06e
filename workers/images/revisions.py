"""What this worker draws with: its models' revisions, for as long as the files stay as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.catalog.revision import LORA_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from app.catalog.entries import Model

CHANGED = "+changed"


class Revisions:
    """The revisions of a worker's models, as it found them when it started.

    All but LoRAs is read at the start. A LoRA is read when it is first asked for, and again after it
    has left memory: where its file was exchanged meanwhile, either may have drawn a picture.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models
        self._found = {
            name: {lora: _stamp(folder) for lora, folder in model.loras.items()}
            for name, model in models.items()
        }

    def of(self, request: Mapping[str, Any]) -> str | None:
        """What a job's pictures are made from now; none if its model is not served here.

        It ends in `+changed`, and so belongs to no earlier or later picture, if the file of a LoRA
        that the request names is another one than at the start.
        """
        model = self._models.get(request["model"])
        if model is None:
            return None
        named = {lora["name"] for lora in request.get("loras", ())} & model.loras.keys()
        found = self._found[model.name]
        changed = any(_stamp(model.loras[lora]) != found[lora] for lora in named)
        return model.revision + (CHANGED if changed else "")


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    """What tells a LoRA's file from another in its place without reading it; none if it is gone."""
    try:
        about = (folder / LORA_FILE).stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns
