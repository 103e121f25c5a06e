"""Pictures on their way to a store that is away for a while."""

from __future__ import annotations

import pytest

from app.storage.objects import StorageError, StoredObject
from workers.images.upload import (
    BACKOFF_S,
    ImageFile,
    RetryPolicy,
    in_parallel,
    postpone_s,
    put_all,
)


class Store:
    """Fails so many times, and keeps what it is given then."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.kept: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, _: str) -> StoredObject:
        """As `Storage` has it."""
        if self.failures:
            self.failures -= 1
            raise StorageError("away")
        self.kept[key] = data
        return StoredObject(len(data), "ab")


def file(n: int) -> ImageFile:
    """One picture."""
    return ImageFile(
        n=n,
        key=f"t/j/1/{n}.png",
        data=b"x" * (n + 1),
        content_type="image/png",
        width=8,
        height=9,
        seed=7 + n,
    )


def test_pictures_are_kept_until_the_store_is_back() -> None:
    """With pauses that grow to a limit; what is told of each is its own."""
    store, pauses = Store(6), list[float]()
    patience = RetryPolicy(3600, lambda: False, pauses.append)
    (image,) = put_all(store, [file(0)], patience)  # type: ignore[arg-type]
    assert pauses == [*BACKOFF_S, BACKOFF_S[-1], BACKOFF_S[-1]]
    assert (image.key, image.bytes, image.seed) == ("t/j/1/0.png", 1, 7)


@pytest.mark.parametrize(("wait_s", "over"), [(0.0, False), (3600.0, True)])
def test_patience_ends(wait_s: float, *, over: bool) -> None:
    """After its time, or when the worker stops, the error goes on to the slot at once."""
    pauses = list[float]()
    with pytest.raises(StorageError):
        put_all(Store(1), [file(0)], RetryPolicy(wait_s, lambda: over, pauses.append))  # type: ignore[arg-type]
    assert pauses == []


def test_many_keep_their_order() -> None:
    """Several pictures go side by side and are told in the order of the job."""
    store = Store(0)
    images = put_all(store, [file(n) for n in range(9)], RetryPolicy(0, lambda: False))  # type: ignore[arg-type]
    assert [image.n for image in images] == list(range(9))
    assert len(store.kept) == 9
    assert in_parallel(str, [7]) == ["7"]


def test_a_job_waits_longer_each_time_up_to_a_minute() -> None:
    """5, 10, 20, 40, then a minute; for any number of attempts."""
    assert [postpone_s(n) for n in (1, 2, 3, 4, 5, 1000)] == [5, 10, 20, 40, 60, 60]
