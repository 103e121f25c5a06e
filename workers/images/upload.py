"""A job's pictures to the object store, in the slot's own threads.

While the store is away the pictures are kept, and the slot with them: so no further job is rendered
for nothing. Only when `PATIENCE_S` are over does the slot give the job back, to be tried later.
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
PATIENCE_S = 30.0
PAUSES_S = (0.5, 1.0, 2.0, 5.0)
UPLOADS = 4
LONGEST_DELAY_S = 60.0


@dataclass(frozen=True, slots=True)
class File:
    """One encoded picture, and the key under which it is to lie."""

    n: int
    key: str
    data: bytes
    content_type: str
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a slot keeps its pictures; `over` says that the worker is stopping."""

    wait_s: float
    over: Callable[[], bool]
    pause: Callable[[float], None] = time.sleep


def put_all(storage: Storage, files: Sequence[File], patience: RetryPolicy) -> list[NewImage]:
    """Store every picture; raises `StorageError` once patience is at its end."""

    def put(file: File) -> NewImage:
        stored = _put(storage, file, patience)
        return NewImage(
            file.n, file.key, file.width, file.height, file.content_type,
            stored.bytes, stored.sha256, file.seed,
        )  # fmt: skip

    return side_by_side(put, files)


def side_by_side(work: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """Do the work for each item, a few at a time; a single one needs no thread."""
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(max_workers=UPLOADS) as pool:
        return list(pool.map(work, items))


def _put(storage: Storage, file: File, patience: RetryPolicy) -> StoredObject:
    give_up_at, tries = time.monotonic() + patience.wait_s, 0
    while True:
        try:
            return storage.put(file.key, file.data, file.content_type)
        except StorageError as error:
            if patience.over() or time.monotonic() >= give_up_at:
                raise
            log.warning("waiting for the store", key=file.key, cause=str(error))
        patience.pause(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
        tries += 1


def again_in_s(attempt: int) -> float:
    """How long a job waits whose pictures could not be stored: 5, 10, 20 ... s, a minute at most."""
    return min(5.0 * float(2 ** min(attempt - 1, 10)), LONGEST_DELAY_S)
