"""Errors of the worker, as one tree: catch `WorkerError` at a boundary."""

from __future__ import annotations


class WorkerError(Exception):
    """The base of every error that the worker raises on purpose."""


class RenderFailed(WorkerError):
    """The request's own fault, or its share of the device's; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class RenderCancelled(WorkerError):
    """The job left the engine because it was asked to."""


class RenderDrained(RenderCancelled):
    """The job left because the worker stops; `checkpoint` is what another one goes on from."""

    def __init__(self, checkpoint: bytes | None) -> None:
        super().__init__()
        self.checkpoint = checkpoint
