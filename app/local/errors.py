"""Errors of a farm on one machine; each message is one line for its user."""

from __future__ import annotations

from app.errors import FarmError


class LocalError(FarmError):
    """The base of this package's errors."""


class ProgramMissingError(LocalError):
    """A program that the farm includes is not installed."""


class StartError(LocalError):
    """A process ended, or was not ready in time, when it was started."""


class PortTakenError(LocalError):
    """Another process listens on a port that was requested by number."""


class InUseError(LocalError):
    """Another farm or server already runs in the directory."""
