"""Expiring signatures for `/files`, the farm's own file server, used where there is no CDN.

A signature is HMAC-SHA256 over the key and the second at which it expires. So a URL cannot be moved
to another object and cannot be prolonged. Nothing is stored: URLs are signed at each read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import quote, urlencode


def sign(key: str, expires: int, secret: str) -> str:
    """Return the signature of an object key, valid until the Unix second `expires`."""
    digest = hmac.new(secret.encode(), f"{expires}\n{key}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verify(key: str, expires: int, signature: str, *, secret: str, now: float) -> bool:
    """Whether the signature is valid and not expired. The comparison takes constant time."""
    ours = sign(key, expires, secret)
    return hmac.compare_digest(ours.encode(), signature.encode()) and now < expires


def file_url(base_url: str, key: str, expires: int, secret: str) -> str:
    """Return the whole URL of an object at the farm's own file server."""
    query = urlencode({"expires": expires, "signature": sign(key, expires, secret)})
    return f"{base_url}/files/{quote(key)}?{query}"


def as_upload(key: str) -> str:
    """Return the text that is signed for an upload, so that a read URL never permits a write."""
    return f"PUT\n{key}"


def upload_url(base_url: str, key: str, expires: int, secret: str) -> str:
    """Return the whole URL to which an object may be PUT, at the farm's own file server."""
    query = urlencode({"expires": expires, "signature": sign(as_upload(key), expires, secret)})
    return f"{base_url}/files/{quote(key)}?{query}"


def lasting(lasts_s: int, now: float | None = None) -> int:
    """Return the Unix second at which a URL signed now expires: at least `lasts_s` from now.

    The expiry is a multiple of a quarter of the lifetime. So an image keeps one URL for a while,
    which helps caches, and a URL that is about to expire is never handed out.
    """
    quarter = max(1, lasts_s // 4)
    return (int(time.time() if now is None else now) // quarter + 1) * quarter + lasts_s
