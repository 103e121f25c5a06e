"""Renamed settings (deprecation): an old name of a variable or of a registry key is still read.

The log then has one warning with both names, `setting_renamed`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
# Bound to the standard library's logger, so that a command that configures no log warns on standard
# error: scripts read its standard output.
log = structlog.wrap_logger(logging.getLogger("app.config"))

VARIABLES: dict[str, str] = {}
"""The current name of each environment variable that has an old one."""


def current_names(
    given: Mapping[str, T], renamed: Mapping[str, str]
) -> tuple[dict[str, T], dict[str, str], dict[str, str]]:
    """Give the settings under their current names, the renames in use, and the conflicts.

    `renamed` and the renames in use map old names to current ones. A setting with both names is a
    conflict; conflicts map the old name to the end of a sentence.
    """
    used = {old: new for old, new in renamed.items() if old in given}
    conflicts = {
        old: f"is the old name of {new}, which is set too: remove {old}"
        for old, new in used.items()
        if new in given
    }
    settings = {used.get(name, name): value for name, value in given.items()}
    return settings, used, conflicts


def warn(used: Mapping[str, str]) -> None:
    """Log each rename in use once."""
    for old, new in sorted(used.items()):
        log.warning("setting_renamed", old=old, new=new)
