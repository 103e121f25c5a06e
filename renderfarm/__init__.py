"""Renderfarm: run AI image generation on your own GPUs, without losing a job.

>>> from renderfarm import Farm
>>> farm = Farm()
>>> farm.render("a red circle on a blue background", seed=7).save("circle.png")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from renderfarm._preview import Preview
from renderfarm.errors import (
    ApiError,
    BadAnswer,
    Conflict,
    DownloadError,
    FarmNotFound,
    Forbidden,
    InvalidRequest,
    JobCancelled,
    JobEnded,
    JobExpired,
    JobFailed,
    NotFound,
    RateLimited,
    RenderfarmError,
    ServerError,
    TransportError,
    Unauthorized,
    WaitTimeout,
    WebhookError,
)
from renderfarm.request import JobFields, JobRequest
from renderfarm.types import Event, Model, Progress, ProgressEvent, StateEvent, Status

if TYPE_CHECKING:
    from renderfarm.async_client import AsyncFarm, AsyncImage, AsyncJob
    from renderfarm.client import Farm, Image, Job

__all__ = [
    "ApiError",
    "AsyncFarm",
    "AsyncImage",
    "AsyncJob",
    "BadAnswer",
    "Conflict",
    "DownloadError",
    "Event",
    "Farm",
    "FarmNotFound",
    "Forbidden",
    "Image",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobExpired",
    "JobFailed",
    "JobFields",
    "JobRequest",
    "Model",
    "NotFound",
    "Preview",
    "Progress",
    "ProgressEvent",
    "RateLimited",
    "RenderfarmError",
    "ServerError",
    "StateEvent",
    "Status",
    "TransportError",
    "Unauthorized",
    "WaitTimeout",
    "WebhookError",
]

_CLIENTS = {
    "Farm": "client",
    "Image": "client",
    "Job": "client",
    "AsyncFarm": "async_client",
    "AsyncImage": "async_client",
    "AsyncJob": "async_client",
}


def __getattr__(name: str) -> object:
    """Load a client, and httpx with it, at its first use.

    The farm's own programs import this package for its types only.
    """
    if name not in _CLIENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"renderfarm.{_CLIENTS[name]}"), name)
