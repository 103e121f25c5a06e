"""Errors of queues, split by what the caller can do about them.

QueueError
├── BadAddress      the URL is not a queue's: change it
├── MissingExtra    the service's SDK is not installed; the text says what to install
├── Unavailable     the service does not answer, or is overloaded: try again later
├── Refused         the service refused (no such queue, no permission): change the settings
└── NotSent         some messages of a batch were refused; `refused` has the reasons
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class QueueError(Exception):
    """The base of every error that this package raises on purpose; `__cause__` is the SDK's own."""


class BadAddress(QueueError):
    """The URL is not a queue's, or has an unknown option."""


class MissingExtra(QueueError):
    """The SDK of this kind of queue is not installed."""


class Unavailable(QueueError):
    """The service could not be reached or did not answer.

    The request may have been processed or not.
    """


class Refused(QueueError):
    """The service refused the request. A retry helps only after a change of settings."""


class NotSent(QueueError):
    """Some messages of a batch were refused; all others were sent.

    `refused` maps each refused id to the reason.
    """

    def __init__(self, refused: Mapping[str, str]) -> None:
        super().__init__(refused)
        self.refused = refused

    def __str__(self) -> str:
        """Count the refused messages and give the first reason."""
        first_id, reason = next(iter(self.refused.items()))
        return f"{len(self.refused)} messages were not sent; {first_id}: {reason}"
