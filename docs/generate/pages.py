"""The generated pages: each file in `docs/reference` with the function that gives its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.config.repository import REPOSITORY
from docs.generate import registry, settings

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = REPOSITORY / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "registry.md": registry.page,
    "settings.md": settings.page,
}
