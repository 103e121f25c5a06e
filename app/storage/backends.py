"""Storage backends: from `RENDERFARM_STORAGE_URL` to an obstore store, with bounded retries.

A slow store may cost a job its attempt, but never blocks a worker for good.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.store import from_url

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": ("STORAGE_EMULATOR_HOST",),
}
"""The SDKs' own variables that name another endpoint, by the scheme of a storage URL."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long one call may take: each try `call_s`; all retries together `retry_s`."""

    call_s: float = 20.0
    connect_s: float = 3.0
    retries: int = 3
    retry_s: float = 20.0


def open_store(url: str, patience: RetryPolicy | None = None) -> Any:
    """Open the store at a URL.

    Its credentials come from the service's own environment variables.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return from_url(url, mkdir=True)
    held = patience or RetryPolicy()
    options: dict[str, Any] = {
        "timeout": timedelta(seconds=held.call_s),
        "connect_timeout": timedelta(seconds=held.connect_s),
    }
    if _plain_http(scheme, os.environ):
        options["allow_http"] = True
    retries = {
        "max_retries": held.retries,
        "retry_timeout": timedelta(seconds=held.retry_s),
    }
    own = _own(scheme, os.environ)
    return from_url(url, client_options=options, retry_config=retries, **own)


def _own(scheme: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that only one service has."""
    if scheme == "s3":  # S3 then refuses a body with a wrong checksum
        return {"checksum_algorithm": "SHA256"}
    if scheme == "gs" and (host := environ.get("STORAGE_EMULATOR_HOST")):
        return {"base_url": host}
    return {}


def _plain_http(scheme: str, environ: Mapping[str, str]) -> bool:
    """Whether the endpoint has no TLS: an emulator, or a store in a private network."""
    if scheme == "az" and environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in {"1", "true"}:
        return True
    return any(environ.get(name, "").startswith("http://") for name in ENDPOINTS[scheme])
