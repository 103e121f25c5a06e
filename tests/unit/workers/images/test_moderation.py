"""The operator's own look at each picture."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.errors import SettingsError
from workers.errors import RenderFailed
from workers.images import moderation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

PIXELS = np.full((2, 3, 3), 200, dtype=np.uint8)


def no_bright_ones(picture: Image.Image, request: Mapping[str, Any]) -> str | None:
    """An operator's rule."""
    return f"too bright for {request['prompt']!r}" if picture.getpixel((0, 0)) > (100,) else None


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the operator's, with the rule in it."""
    module = ModuleType("their_rules")
    module.look = no_bright_ones  # type: ignore[attr-defined]
    module.number = 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_rules", module)
    return "their_rules"


def test_a_reason_rejects_and_none_lets_pass(rules: str) -> None:
    """The job fails as `content_rejected`, with the reason in the operator's words."""
    moderator = moderation.load(f"{rules}:look")
    assert moderator is not None
    with pytest.raises(RenderFailed, match="too bright for 'night'") as caught:
        moderation.check(moderator, PIXELS, {"prompt": "night"})
    assert caught.value.code == "content_rejected"
    moderation.check(moderator, PIXELS // 4, {"prompt": "night"})


def test_it_is_off_unless_named() -> None:
    """Nothing is looked at by default."""
    assert moderation.load("") is None


@pytest.mark.parametrize("tail", ["", ":", ":nothing", ":number", ":look.x"])
def test_what_cannot_be_called_stops_the_start(rules: str, tail: str) -> None:
    """A wrong name is one line that names the variable; a farm never runs without its rule."""
    with pytest.raises(SettingsError, match="RENDERFARM_MODERATION"):
        moderation.load(rules + tail)
    with pytest.raises(SettingsError, match="RENDERFARM_MODERATION"):
        moderation.load(f"no_such_module{tail or ':x'}")
