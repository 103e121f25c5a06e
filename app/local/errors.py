"""What can go wrong when a farm runs on one machine; each message is one line for its user."""

from __future__ import annotations

from app.errors import FarmError


class LocalError(FarmError):
    """The base of this package's errors."""


class ProgramMissingError(LocalError):
    """A program that the farm brings along is not installed."""


class StartError(LocalError):
    """A process ended, or was not ready in time, when it was started."""


class PortTakenError(LocalError):
    """Another process listens on a port that was asked for by number."""


class InUseError(LocalError):
    """Another farm or server already runs on the directory."""
