"""Moderation: the operator's check of each picture."""

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
    """Reject bright pictures, as an operator's rule might."""
    bright = np.asarray(picture).mean() > 100
    return f"too bright for {request['prompt']!r}" if bright else None


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an operator's module that contains the rule."""
    module = ModuleType("operator_rules")
    module.check = no_bright_ones  # type: ignore[attr-defined]
    module.number = 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "operator_rules", module)
    return "operator_rules"


def test_a_reason_rejects_and_none_accepts(rules: str) -> None:
    """The job fails as `content_rejected`, with the reason in the operator's words."""
    moderator = moderation.load(f"{rules}:check")
    assert moderator is not None
    with pytest.raises(RenderFailed, match="too bright for 'night'") as caught:
        moderation.check(moderator, PIXELS, {"prompt": "night"})
    assert caught.value.code == "content_rejected"
    moderation.check(moderator, PIXELS // 4, {"prompt": "night"})


def test_moderation_is_off_by_default() -> None:
    """By default no picture is checked."""
    assert moderation.load("") is None


@pytest.mark.parametrize("tail", ["", ":", ":nothing", ":number", ":check.x"])
def test_a_wrong_name_is_refused_at_the_start(rules: str, tail: str) -> None:
    """The error names the variable, so a farm never runs without its rule."""
    with pytest.raises(SettingsError, match="RENDERFARM_MODERATION"):
        moderation.load(rules + tail)
    with pytest.raises(SettingsError, match="RENDERFARM_MODERATION"):
        moderation.load(f"no_such_module{tail or ':x'}")
