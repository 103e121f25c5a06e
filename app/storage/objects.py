"""Object storage with one interface: local files, S3, Google Cloud Storage, Azure Blob."""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError

from app.errors import FarmError, TooLarge
from app.storage.backends import RetryPolicy, open_store
from app.storage.cdn import CloudCdn, signer
from app.storage.signing import file_url, lasting, upload_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.config.settings import Settings

REASON_CHARS = 500
_XML_HEAD = re.compile(r"<\?xml[^>]*>\s*")
IMMUTABLE = "public, max-age=31536000, immutable"


class StorageError(FarmError):
    """The object store failed; another try may succeed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A stored object: its size and the SHA-256 of its bytes, in hex."""

    bytes: int
    sha256: str


class Storage(Protocol):
    """Stores objects under keys of the form `{tenant}/{job}/{attempt}/{n}.{ext}`."""

    def put(self, key: str, data: bytes, content_type: str) -> StoredObject:
        """Write an object whole and check that it is there. Raises `StorageError`.

        Writing the same key again replaces the object.
        """

    def get(self, key: str, limit_bytes: int | None = None) -> bytes:
        """Return the object's bytes. Raises `FileNotFoundError`, `TooLarge`, or `StorageError`."""

    def delete(self, keys: list[str]) -> None:
        """Delete objects. A missing object is not an error."""

    def url(self, key: str, lasts_s: int | None = None) -> str:
        """Return a presigned URL: it gives the object to anyone until it expires.

        Nothing is stored.

        The URL is valid for `lasts_s` seconds, or for the time in the settings.
        """

    def upload_url(self, key: str, lasts_s: int) -> str:
        """Return a presigned URL to which anyone may PUT the object, for this many seconds."""

    def cookie(self, folder: str, lasts_s: int | None) -> tuple[str, int] | None:
        """Return the CDN's cookie for a folder, and its expiry in Unix seconds.

        None without one.
        """


class ObjectStorage:
    """`Storage` on obstore. Safe from any thread."""

    def __init__(self, settings: Settings, patience: RetryPolicy | None = None) -> None:
        self._settings = settings
        self._root = _local_root(settings.storage_url)
        self._store: Any = open_store(settings.storage_url, patience)
        self._cdn = signer(settings.cdn, self._presign) if settings.cdn else None

    def put(self, key: str, data: bytes, content_type: str) -> StoredObject:
        """Write an object whole and check that it is there. Raises `StorageError`."""
        digest = hashlib.sha256(data).hexdigest()
        with _errors("store", key):
            if self._root is not None:
                obstore.put(self._store, key, data)
                _to_disk(self._root / key)
            else:
                attributes = self._attributes(key, content_type)
                obstore.put(self._store, key, data, attributes=attributes, tags=self._tags(key))
            self._check(key, len(data), digest)
        return StoredObject(len(data), digest)

    def _check(self, key: str, size: int, digest: str) -> None:
        """Compare the object in the store with the bytes that were sent."""
        if self._settings.storage_verify == "size":
            found: object = obstore.head(self._store, key)["size"]
            if found == size:
                return
        elif hashlib.sha256(obstore.get(self._store, key).bytes()).hexdigest() == digest:
            return
        raise StorageError(f"{key} was stored as something else than was sent")

    def _attributes(self, key: str, content_type: str) -> dict[str, str]:
        name = "-".join(key.split("/")[-3::2])  # {job}-{n}.{ext}
        attributes = {
            "Content-Type": content_type,
            "Cache-Control": IMMUTABLE,
            "Content-Disposition": f'inline; filename="{name}"',
        }
        if self._settings.storage_class:
            attributes["Storage-Class"] = self._settings.storage_class
        return attributes

    def _tags(self, key: str) -> dict[str, str] | None:
        tenant = key.partition("/")[0]
        tags = self._settings.storage_tags
        return {name: value.replace("{tenant}", tenant) for name, value in tags} or None

    def get(self, key: str, limit_bytes: int | None = None) -> bytes:
        """Return the object's bytes. Raises `FileNotFoundError`, `TooLarge`, or `StorageError`."""
        try:
            with _errors("read", key, missing=True):
                found = obstore.get(self._store, key)
                if limit_bytes is not None and found.meta["size"] > limit_bytes:
                    raise TooLarge(f"the object has more than {limit_bytes} bytes")
                return bytes(found.bytes())
        except ValueError as error:  # a key such as `../x` is not a valid key
            raise FileNotFoundError(key) from error

    def delete(self, keys: list[str]) -> None:
        """Delete objects. A missing object is not an error."""
        for key in keys:
            try:
                with _errors("delete", key, missing=True):
                    obstore.delete(self._store, key)
            except FileNotFoundError:
                continue

    def old_keys(self, age_s: float, many: int = 1000) -> Iterator[list[str]]:
        """Yield the keys of all objects that are at least this old, in batches."""
        before = datetime.now(UTC) - timedelta(seconds=age_s)
        with _errors("list", "the objects"):
            for found in obstore.list(self._store, chunk_size=many):
                yield [each["path"] for each in found if each["last_modified"] < before]

    def url(self, key: str, lasts_s: int | None = None) -> str:
        """Return a presigned URL: it gives the object to anyone until it expires.

        Nothing is stored.
        """
        lasts_s = lasts_s or self._settings.url_expiry_s
        expires = lasting(lasts_s)
        if self._cdn is not None:
            return self._cdn(key, expires)
        if self._root is not None:
            return file_url(self._settings.public_url, key, expires, self._settings.secret)
        return self._sign("GET", key, lasts_s)

    def cookie(self, folder: str, lasts_s: int | None) -> tuple[str, int] | None:
        """Return Google Cloud CDN's cookie for a folder, and its expiry; None without one."""
        if not isinstance(self._cdn, CloudCdn):
            return None
        expires = lasting(lasts_s or self._settings.url_expiry_s)
        return self._cdn.cookie(folder, expires), expires

    def upload_url(self, key: str, lasts_s: int) -> str:
        """Return a presigned URL to which anyone may PUT the object, for this many seconds."""
        if self._root is None:
            return self._sign("PUT", key, lasts_s)
        expires = int(time.time()) + lasts_s
        return upload_url(self._settings.public_url, key, expires, self._settings.secret)

    def _presign(self, key: str, expires: int) -> str:
        return self._sign("GET", key, max(1, expires - int(time.time())))

    def _sign(self, method: Literal["GET", "PUT"], key: str, lasts_s: int) -> str:
        with _errors("sign", key):
            return str(obstore.sign(self._store, method, key, timedelta(seconds=lasts_s)))


@contextmanager
def _errors(verb: str, key: str, *, missing: bool = False) -> Iterator[None]:
    """Raise a store's error as `StorageError`; a missing object as `FileNotFoundError` if asked."""
    try:
        yield
    except FileNotFoundError as error:
        if missing:
            raise
        raise StorageError(f"cannot {verb} {key}: {_reason(error)}") from error
    except (BaseError, OSError) as error:
        raise StorageError(f"cannot {verb} {key}: {_reason(error)}") from error
    except BaseException as error:
        if (
            type(error).__name__ != "PanicException"
        ):  # a bug in obstore, which is not even an Exception
            raise
        raise StorageError(f"cannot {verb} {key}: {_reason(error)}") from error


def _local_root(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _to_disk(path: Path) -> None:
    """Flush the file and its name to the disk: the database must not be ahead of it.

    The parent folders exist already; the journals of ext4, XFS and Btrfs keep this order.
    """
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: BaseException) -> str:
    """Return the service's own error in one line, without obstore's decoration.

    A service answers in XML. The first line says nothing; the reason comes later.
    """
    message = str(error).partition("Debug source:")[0]
    words = " ".join(_XML_HEAD.sub("", message).split())
    return words[:REASON_CHARS] or type(error).__name__
