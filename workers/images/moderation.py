"""Moderation: the operator's check of each picture before it is stored (`RENDERFARM_MODERATION`).

The setting names a callable, `package.module:function`. It receives the picture (PIL, RGB) and the
request, and returns None to accept the picture, or a short reason to reject it. Without the setting
there is no check. If the callable raises, the attempt fails and no picture of it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image

from app.errors import SettingsError
from workers.errors import RenderFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VARIABLE = "RENDERFARM_MODERATION"
Moderator: TypeAlias = Callable[[Image.Image, Mapping[str, Any]], "str | None"]


def load(name: str) -> Moderator | None:
    """Import the callable; return None for an empty name. Raises `SettingsError`."""
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{VARIABLE}: {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise SettingsError(f"{VARIABLE}: {name!r} is not callable")
    moderator: Moderator = found
    return moderator


def check(moderator: Moderator, pixels: NDArray[np.uint8], request: Mapping[str, Any]) -> None:
    """Accept a HxWx3 picture, or raise RenderFailed `content_rejected`."""
    reason = moderator(Image.fromarray(pixels), request)
    if reason is not None:
        raise RenderFailed("content_rejected", str(reason)[:500] or "rejected")
