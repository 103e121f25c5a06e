"""From `RENDERFARM_STORAGE_URL` to an obstore store, with few tries and bounded times.

A slow store must cost a job its turn, not a worker its life.
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
"""The SDKs' own variables that point elsewhere, by the scheme of a storage URL."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long one call may take: each try `call_s`, all of them `retry_s` beyond the first."""

    call_s: float = 20.0
    connect_s: float = 3.0
    retries: int = 3
    retry_s: float = 20.0


def open_store(url: str, patience: RetryPolicy | None = None) -> Any:
    """The store at a URL; its credentials come by the service's own environment variables."""
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
    """What one service has and the others have not."""
    if scheme == "s3":  # S3 itself then refuses a body that is not what was sent
        return {"checksum_algorithm": "SHA256"}
    if scheme == "gs" and (host := environ.get("STORAGE_EMULATOR_HOST")):
        return {"base_url": host}
    return {}


def _plain_http(scheme: str, environ: Mapping[str, str]) -> bool:
    """Whether the endpoint is one without TLS: an emulator, or a store of one's own."""
    if scheme == "az" and environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in {"1", "true"}:
        return True
    return any(environ.get(name, "").startswith("http://") for name in ENDPOINTS[scheme])
