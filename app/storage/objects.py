"""Object storage behind one door: local files, S3, Google Cloud Storage or Azure Blob, by URL."""

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
    """The object store did not do what was asked; another try may well succeed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What was written: its size and the SHA-256 of its bytes, in hex."""

    bytes: int
    sha256: str


class Storage(Protocol):
    """Keeps objects under keys like `{tenant}/{job}/{attempt}/{n}.{ext}`."""

    def put(self, key: str, data: bytes, content_type: str) -> StoredObject:
        """Write an object whole and see that it is there, or raise `StorageError`.

        Writing it again replaces it.
        """

    def get(self, key: str, limit_bytes: int | None = None) -> bytes:
        """The object's bytes. Raises `FileNotFoundError`, `TooLarge`, or `StorageError`."""

    def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are not there are no error."""

    def url(self, key: str, lasts_s: int | None = None) -> str:
        """A URL that gives the object to whoever holds it, for a while. Nothing is stored.

        For `lasts_s` seconds, or for as long as the settings say.
        """

    def upload_url(self, key: str, lasts_s: int) -> str:
        """A URL to which whoever holds it may PUT the object, for so many seconds."""

    def cookie(self, folder: str, lasts_s: int | None) -> tuple[str, int] | None:
        """What opens a folder at a CDN that takes cookies, and until which Unix second; else none."""


class ObjectStorage:
    """`Storage` on obstore. Safe from any thread."""

    def __init__(self, settings: Settings, patience: RetryPolicy | None = None) -> None:
        self._settings = settings
        self._root = _local_root(settings.storage_url)
        self._store: Any = open_store(settings.storage_url, patience)
        self._cdn = signer(settings.cdn, self._presign) if settings.cdn else None

    def put(self, key: str, data: bytes, content_type: str) -> StoredObject:
        """Write an object whole and see that it is there, or raise `StorageError`."""
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
        """Compare what the store has now with what it was given."""
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
        """The object's bytes. Raises `FileNotFoundError`, `TooLarge`, or `StorageError`."""
        try:
            with _errors("read", key, missing=True):
                found = obstore.get(self._store, key)
                if limit_bytes is not None and found.meta["size"] > limit_bytes:
                    raise TooLarge(f"the object has more than {limit_bytes} bytes")
                return bytes(found.bytes())
        except ValueError as error:  # a key such as `../x` is no key at all
            raise FileNotFoundError(key) from error

    def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are not there are no error."""
        for key in keys:
            try:
                with _errors("delete", key, missing=True):
                    obstore.delete(self._store, key)
            except FileNotFoundError:
                continue

    def old_keys(self, age_s: float, many: int = 1000) -> Iterator[list[str]]:
        """The keys of all objects that were written so long ago, many at a time."""
        before = datetime.now(UTC) - timedelta(seconds=age_s)
        with _errors("list", "the objects"):
            for found in obstore.list(self._store, chunk_size=many):
                yield [each["path"] for each in found if each["last_modified"] < before]

    def url(self, key: str, lasts_s: int | None = None) -> str:
        """A URL that gives the object to whoever holds it, for a while. Nothing is stored."""
        lasts_s = lasts_s or self._settings.url_expiry_s
        expires = lasting(lasts_s)
        if self._cdn is not None:
            return self._cdn(key, expires)
        if self._root is not None:
            return file_url(self._settings.public_url, key, expires, self._settings.secret)
        return self._sign("GET", key, lasts_s)

    def cookie(self, folder: str, lasts_s: int | None) -> tuple[str, int] | None:
        """What opens a folder at Google Cloud CDN, and until which Unix second; else none."""
        if not isinstance(self._cdn, CloudCdn):
            return None
        expires = lasting(lasts_s or self._settings.url_expiry_s)
        return self._cdn.cookie(folder, expires), expires

    def upload_url(self, key: str, lasts_s: int) -> str:
        """A URL to which whoever holds it may PUT the object, for so many seconds."""
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
    """Name what went wrong. A missing object is told apart where the caller asks for that."""
    try:
        yield
    except FileNotFoundError as error:
        if missing:
            raise
        raise StorageError(f"cannot {verb} {key}: {_reason(error)}") from error
    except (BaseError, OSError) as error:
        raise StorageError(f"cannot {verb} {key}: {_reason(error)}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a bug in obstore; not an Exception at all
            raise
        raise StorageError(f"cannot {verb} {key}: {_reason(error)}") from error


def _local_root(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _to_disk(path: Path) -> None:
    """Have the file and its name on the disk: the records are, and must not be ahead of it.

    The folders above were made before; the journals of ext4, XFS and Btrfs keep that order.
    """
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: BaseException) -> str:
    """What obstore and the service said, in one line, without obstore's own view of it.

    A service's answer is XML whose first line says nothing, with the reason further on.
    """
    said = str(error).partition("Debug source:")[0]
    words = " ".join(_XML_HEAD.sub("", said).split())
    return words[:REASON_CHARS] or type(error).__name__
