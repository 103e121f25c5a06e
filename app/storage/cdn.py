"""URLs signed for a CDN in front of the store: CloudFront, Google Cloud CDN, Azure Front Door.

`app.config.cdn` reads the setting. The key file is read once, when the storage is opened.

- CloudFront:
  https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-signed-urls.html
- Cloud CDN: https://cloud.google.com/cdn/docs/using-signed-urls
- Front Door has no signatures of its own: the URL carries the blob's SAS to the origin.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlencode, urlsplit

from app.config.cdn import VARIABLE, Cdn
from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_BYTES = 16


class Signer(Protocol):
    """Signs the URL of an object."""

    def __call__(self, key: str, expires: int) -> str:
        """Return the URL of an object's key, valid until the Unix second `expires`."""


def signer(cdn: Cdn, presign: Callable[[str, int], str]) -> Signer:
    """Return the signer of a CDN; `presign` is the store's own.

    Raises `SettingsError` for a bad key.
    """
    if cdn.kind == "frontdoor":
        return lambda key, expires: _through(cdn.url, presign(key, expires))
    try:
        raw = (cdn.key_file or Path()).read_bytes()
    except OSError as error:
        raise SettingsError(f"{VARIABLE}: key_file cannot be read: {error}") from error
    if cdn.kind == "cloudcdn":
        return CloudCdn(cdn, _secret(raw))
    return _CloudFront(cdn, _private_key(raw))


class _CloudFront:
    """Signs SHA-256 by an RSA or an ECDSA key; the URL says so in `Hash-Algorithm`."""

    def __init__(self, cdn: Cdn, sign: Callable[[bytes], bytes]) -> None:
        self._cdn = cdn
        self._sign = sign

    def __call__(self, key: str, expires: int) -> str:
        url = f"{self._cdn.url}/{quote(key)}"
        custom = self._cdn.policy == "custom"
        resource = f"{self._cdn.url}/{quote(_folder(key))}/*" if custom else url
        condition = {"DateLessThan": {"AWS:EpochTime": expires}}
        statement = {"Statement": [{"Resource": resource, "Condition": condition}]}
        policy = json.dumps(statement, separators=(",", ":")).encode()
        validity = {"Policy": _safe(policy)} if custom else {"Expires": str(expires)}
        signed = {
            "Signature": _safe(self._sign(policy)),
            "Key-Pair-Id": self._cdn.key_id,
            "Hash-Algorithm": "SHA256",
        }
        return f"{url}?{urlencode(validity | signed, safe='~')}"


class CloudCdn:
    """Signs by HMAC-SHA1 over the URL itself, or over the prefix of a job's images."""

    def __init__(self, cdn: Cdn, secret: bytes) -> None:
        self._cdn = cdn
        self._secret = secret

    def __call__(self, key: str, expires: int) -> str:
        """Return the URL of an object's key, valid until the Unix second `expires`."""
        url = f"{self._cdn.url}/{quote(key)}"
        limits = f"Expires={expires}&KeyName={self._cdn.key_id}"
        if self._cdn.policy == "url":
            unsigned = f"{url}?{limits}"
            return f"{unsigned}&Signature={self._mac(unsigned)}"
        policy = f"URLPrefix={self._prefix(_folder(key))}&{limits}"
        return f"{url}?{policy}&Signature={self._mac(policy)}"

    def cookie(self, folder: str, expires: int) -> str:
        """Return the value of `Cloud-CDN-Cookie` that opens all objects below a folder."""
        policy = f"URLPrefix={self._prefix(folder)}:Expires={expires}:KeyName={self._cdn.key_id}"
        return f"{policy}:Signature={self._mac(policy)}"

    def _prefix(self, folder: str) -> str:
        return base64.urlsafe_b64encode(f"{self._cdn.url}/{quote(folder)}/".encode()).decode()

    def _mac(self, signed: str) -> str:
        digest = hmac.digest(self._secret, signed.encode(), hashlib.sha1)
        return base64.urlsafe_b64encode(digest).decode()


def _folder(key: str) -> str:
    """Return the part of a key that all images of a job share: `{tenant}/{job}`."""
    return "/".join(key.split("/")[:2])


def _through(cdn_url: str, signed: str) -> str:
    """Return a blob's signed URL on the CDN's host: same path after the container, same SAS."""
    parts = urlsplit(signed)
    return f"{cdn_url}{parts.path}?{parts.query}"


def _safe(data: bytes) -> str:
    """Encode as Base64 in the alphabet that CloudFront uses in a URL."""
    return base64.b64encode(data).translate(bytes.maketrans(b"+=/", b"-_~")).decode()


def _secret(raw: bytes) -> bytes:
    """Decode a Cloud CDN key: 16 bytes in URL-safe Base64, in the form that `gcloud` takes."""
    try:
        secret = base64.urlsafe_b64decode(raw.strip())
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise SettingsError(f"{VARIABLE}: key_file must hold {KEY_BYTES} bytes in URL-safe base64")
    return secret


def _private_key(raw: bytes) -> Callable[[bytes], bytes]:
    """Return the signing function of a CloudFront key in PEM: RSA 2048, or ECDSA on P-256."""
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - heavy
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(raw, password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{VARIABLE}: key_file is not a private key in PEM: {error}") from error
    if isinstance(key, rsa.RSAPrivateKey):
        return lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return lambda data: key.sign(data, ec.ECDSA(hashes.SHA256()))
    raise SettingsError(f"{VARIABLE}: key_file must hold an RSA or an ECDSA key")
