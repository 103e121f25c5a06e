"""Adds the `renderfarm` command to editable installs, and to nothing else.

The published wheel is the SDK: its users must not get a command whose code (`app`) it does not
ship. A checkout has the whole farm, so `pip install -e .` puts `bin/renderfarm` on the PATH.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommandHook(BuildHookInterface):
    """Ships `bin/renderfarm` as a script when the build is an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the script for `version == "editable"`; leave the standard wheel alone."""
        if version == "editable":
            script = Path(self.root, "bin", "renderfarm")
            build_data["shared_scripts"][str(script)] = "renderfarm"
