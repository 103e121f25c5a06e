"""The operator's own look at each picture before it is stored: `RENDERFARM_MODERATION`.

It names a callable, `package.module:function`, that is given the picture (PIL, RGB) and the request,
and answers None to let it pass, or says in a few words why not. Off unless it is set. One that fails
costs the job a try, and lets nothing pass.
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
    """The callable of that name; none for none. Raises `SettingsError`."""
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{VARIABLE}: {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise SettingsError(f"{VARIABLE}: {name!r} cannot be called")
    moderator: Moderator = found
    return moderator


def look(moderator: Moderator, pixels: NDArray[np.uint8], request: Mapping[str, Any]) -> None:
    """Let a picture pass, or raise RenderFailed `content_rejected`."""
    reason = moderator(Image.fromarray(pixels), request)
    if reason is not None:
        raise RenderFailed("content_rejected", str(reason)[:500] or "rejected")
