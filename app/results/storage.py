"""Object storage behind one door: local files, S3, Google Cloud Storage or Azure Blob, by URL.

Credentials come by each service's own environment variables. Every call is given few tries and a
bounded time: a slow store must cost a job its turn, not a worker its life.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from app.errors import FarmError
from app.results.signing import file_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.settings import Settings

IMMUTABLE = "public, max-age=31536000, immutable"
RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
TIMEOUTS = {"timeout": timedelta(seconds=20), "connect_timeout": timedelta(seconds=3)}


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
        """Write an object whole, or raise `StorageError`. Writing it again replaces it."""

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises `FileNotFoundError`, or `StorageError`."""

    def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are not there are no error."""

    def url(self, key: str) -> str:
        """A URL that gives the object to whoever holds it, for a while. Nothing is stored."""


class ObjectStorage:
    """`Storage` on obstore. Safe from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = urlsplit(settings.storage_url).scheme == "file"
        if self._local:
            self._store: Any = from_url(settings.storage_url, mkdir=True)
        else:
            options = TIMEOUTS | ({"allow_http": True} if _plain_http() else {})
            self._store = from_url(
                settings.storage_url, client_options=options, retry_config=RETRIES
            )

    def put(self, key: str, data: bytes, content_type: str) -> StoredObject:
        """Write an object whole, or raise `StorageError`. Writing it again replaces it."""
        attributes = {"Content-Type": content_type, "Cache-Control": IMMUTABLE}
        try:
            obstore.put(self._store, key, data, attributes=None if self._local else attributes)
        except (BaseError, OSError) as error:
            raise StorageError(f"cannot store {key}: {_first_line(error)}") from error
        return StoredObject(len(data), hashlib.sha256(data).hexdigest())

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises `FileNotFoundError`, or `StorageError`."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            raise
        except ValueError as error:  # a key such as `../x` is no key at all
            raise FileNotFoundError(key) from error
        except (BaseError, OSError) as error:
            raise StorageError(f"cannot read {key}: {_first_line(error)}") from error

    def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are not there are no error."""
        for key in keys:
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise StorageError(f"cannot delete {key}: {_first_line(error)}") from error

    def old_keys(self, age_s: float, many: int = 1000) -> Iterator[list[str]]:
        """The keys of all objects that were written so long ago, many at a time."""
        before = datetime.now(UTC) - timedelta(seconds=age_s)
        try:
            for found in obstore.list(self._store, chunk_size=many):
                yield [each["path"] for each in found if each["last_modified"] < before]
        except (BaseError, OSError) as error:
            raise StorageError(f"cannot list the objects: {_first_line(error)}") from error

    def url(self, key: str) -> str:
        """A URL that gives the object to whoever holds it, for a while. Nothing is stored."""
        lasts_s = self._settings.url_expiry_s
        if self._local:
            # Whole quarters of the lifetime, so that one picture keeps one URL and caches well.
            quarter = max(1, lasts_s // 4)
            expires = (int(time.time()) // quarter + 1) * quarter + lasts_s
            return file_url(self._settings.public_url, key, expires, self._settings.secret)
        return str(obstore.sign(self._store, "GET", key, timedelta(seconds=lasts_s)))


def _plain_http() -> bool:
    import os  # noqa: PLC0415  (the SDK's own variable, not one of ours)

    return os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
