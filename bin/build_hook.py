"""Build hook: the command for editable installs, the queues for the wheel.

The published wheel is the SDK: its users must not get a command whose code (`app`) it does not
contain. A checkout has the whole farm, so `pip install -e .` puts `bin/renderfarm` on the PATH.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommandHook(BuildHookInterface):
    """Ships `bin/renderfarm` as a script if the build is editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the script to an editable install, and `queues/` as `renderfarm.queues` to a wheel.

        A checkout has the link `renderfarm/queues`; a source distribution has no links.
        """
        if version == "editable":
            script = Path(self.root, "bin", "renderfarm")
            build_data["shared_scripts"][str(script)] = "renderfarm"
        else:
            build_data["force_include"][str(Path(self.root, "queues"))] = "renderfarm/queues"
