"""The generated pages: each file in `docs/reference` with the function that gives its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.config.repository import REPOSITORY
from app.intake.schema import document as queue_message_schema
from docs.generate import (
    command_line,
    errors,
    http,
    log_events,
    metrics,
    queue_messages,
    registry,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = REPOSITORY / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "command-line.md": command_line.page,
    "errors.md": errors.page,
    "http.md": http.page,
    "log-events.md": log_events.page,
    "metrics.md": metrics.page,
    "openapi.json": http.document,
    "queue-message.schema.json": queue_message_schema,
    "queue-messages.md": queue_messages.page,
    "registry.md": registry.page,
    "settings.md": settings.page,
}
