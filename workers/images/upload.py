"""Upload: a job's pictures to the object store, with retries and backoff, in the slot's threads.

While the store is unavailable, the slot keeps its pictures and takes no other job, so no job is
rendered in vain (backpressure). After `RETRY_FOR_S` the slot releases the job, to be tried later.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from app.jobs.records import NewImage
from app.storage.objects import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.storage.objects import Storage, StoredObject

A = TypeVar("A")
B = TypeVar("B")
log = structlog.get_logger("workers.images.upload")
RETRY_FOR_S = 30.0
BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
THREADS = 4
MAX_POSTPONE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One encoded picture, and its key in the object store. `width` and `height` are in pixels."""

    n: int
    key: str
    data: bytes
    content_type: str
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retry for `retry_for_s`, but not while `stopping` answers that the worker is stopping."""

    retry_for_s: float
    stopping: Callable[[], bool]
    pause: Callable[[float], None] = time.sleep


def put_all(storage: Storage, files: Sequence[ImageFile], policy: RetryPolicy) -> list[NewImage]:
    """Store every picture. Raises `StorageError` if the store stays unavailable."""

    def put(file: ImageFile) -> NewImage:
        stored = _put(storage, file, policy)
        return NewImage(
            n=file.n,
            key=file.key,
            width=file.width,
            height=file.height,
            content_type=file.content_type,
            bytes=stored.bytes,
            sha256=stored.sha256,
            seed=file.seed,
        )

    return in_parallel(put, files)


def in_parallel(work: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """Map `work` over the items in `THREADS` threads; a single item needs no thread."""
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        return list(pool.map(work, items))


def _put(storage: Storage, file: ImageFile, policy: RetryPolicy) -> StoredObject:
    give_up_at, tries = time.monotonic() + policy.retry_for_s, 0
    while True:
        try:
            return storage.put(file.key, file.data, file.content_type)
        except StorageError as error:
            if policy.stopping() or time.monotonic() >= give_up_at:
                raise
            log.warning("store_unavailable", key=file.key, cause=str(error))
        policy.pause(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
        tries += 1


def postpone_s(attempt: int) -> float:
    """Return the delay of a job whose pictures could not be stored: 5, 10, 20 ... 60 s."""
    return min(5.0 * float(2 ** min(attempt - 1, 10)), MAX_POSTPONE_S)
