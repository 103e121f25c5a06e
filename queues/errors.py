"""What can go wrong with a queue, split by what the caller can do about it.

QueueError
├── BadAddress      the URL names no queue: change it
├── MissingExtra    the service's SDK is not installed; the text says what to install
├── Unavailable     the service does not answer, or is overloaded: try again later
├── Refused         the service said no (no such queue, no permission): change its settings
└── NotSent         some messages of a batch were not taken; `refused` says which, and why
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class QueueError(Exception):
    """The base of every error this package raises on purpose; `__cause__` is the SDK's own."""


class BadAddress(QueueError):
    """The URL is not one of a queue, or has an option that its kind of queue does not know."""


class MissingExtra(QueueError):
    """The SDK of this kind of queue is not installed."""


class Unavailable(QueueError):
    """The service could not be reached or did not answer. Whether it did what was asked is unknown."""


class Refused(QueueError):
    """The service answered, and refused. Trying again does not help until something is changed."""


class NotSent(QueueError):
    """Some messages of a batch were not taken; all others were.

    `refused` maps each id that was not taken to the reason.
    """

    def __init__(self, refused: Mapping[str, str]) -> None:
        super().__init__(refused)
        self.refused = refused

    def __str__(self) -> str:
        """Count them and say why the first was refused."""
        first_id, reason = next(iter(self.refused.items()))
        return f"{len(self.refused)} messages were not sent; {first_id}: {reason}"
