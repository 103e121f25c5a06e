"""Expiring signatures for `/files`, the embedded default's stand-in for a CDN.

A signature is HMAC-SHA256 over the key and the second at which it expires, so a URL can be neither
moved to another object nor kept alive. Nothing is stored: URLs are made at each read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import quote, urlencode


def sign(key: str, expires: int, secret: str) -> str:
    """The signature of an object key until the Unix second `expires`."""
    digest = hmac.new(secret.encode(), f"{expires}\n{key}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verify(key: str, expires: int, signature: str, *, secret: str, now: float) -> bool:
    """Whether the signature is ours and the time has not come. Constant-time in the signature."""
    ours = sign(key, expires, secret)
    return hmac.compare_digest(ours.encode(), signature.encode()) and now < expires


def file_url(base_url: str, key: str, expires: int, secret: str) -> str:
    """The whole URL of an object behind the farm's own file server."""
    query = urlencode({"expires": expires, "signature": sign(key, expires, secret)})
    return f"{base_url}/files/{quote(key)}?{query}"


def as_upload(key: str) -> str:
    """What is signed for an upload of a key: a URL that reads an object never writes one."""
    return f"PUT\n{key}"


def upload_url(base_url: str, key: str, expires: int, secret: str) -> str:
    """The whole URL to which an object may be put, at the farm's own file server."""
    query = urlencode({"expires": expires, "signature": sign(as_upload(key), expires, secret)})
    return f"{base_url}/files/{quote(key)}?{query}"


def lasting(lasts_s: int, now: float | None = None) -> int:
    """The Unix second at which a URL that is made now expires: at least `lasts_s` from now.

    Whole quarters of the lifetime, so that one picture keeps one URL for a while and caches well;
    a URL that is about to expire is never given out.
    """
    quarter = max(1, lasts_s // 4)
    return (int(time.time() if now is None else now) // quarter + 1) * quarter + lasts_s
