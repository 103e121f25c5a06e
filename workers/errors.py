"""Errors of the worker, as one tree: catch `WorkerError` at a boundary."""

from __future__ import annotations


class WorkerError(Exception):
    """The base of all errors that the worker raises on purpose."""


class RenderFailed(WorkerError):
    """The job cannot be rendered; `code` is stable, `message` is for the tenant.

    The cause is the request itself, or a fault of the device that hit this job.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class InputUnavailable(WorkerError):
    """An input picture's server did not deliver it now; a later attempt may succeed."""


class RenderCancelled(WorkerError):
    """The job left the engine before its end: it was cancelled, or the worker is stopping."""


class RenderDrained(RenderCancelled):
    """The worker is stopping; the next attempt resumes from `checkpoint`, if there is one."""

    def __init__(self, checkpoint: bytes | None) -> None:
        super().__init__()
        self.checkpoint = checkpoint
