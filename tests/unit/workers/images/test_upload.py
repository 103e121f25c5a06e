"""Upload of pictures to a store that is unavailable for a while."""

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


class FlakyStore:
    """A store that fails `failures` times, and then keeps objects."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, _: str) -> StoredObject:
        """Like `Storage.put`."""
        if self.failures:
            self.failures -= 1
            raise StorageError("unavailable")
        self.objects[key] = data
        return StoredObject(len(data), "ab")


def file(n: int) -> ImageFile:
    """Build one picture's file."""
    return ImageFile(
        n=n,
        key=f"t/j/1/{n}.png",
        data=b"x" * (n + 1),
        content_type="image/png",
        width=8,
        height=9,
        seed=7 + n,
    )


def test_an_upload_is_retried_until_the_store_is_available() -> None:
    """The pauses grow to a limit, and each image has its own key, size and seed."""
    store, pauses = FlakyStore(6), list[float]()
    policy = RetryPolicy(3600, lambda: False, pauses.append)
    (image,) = put_all(store, [file(0)], policy)  # type: ignore[arg-type]
    assert pauses == [*BACKOFF_S, BACKOFF_S[-1], BACKOFF_S[-1]]
    assert (image.key, image.bytes, image.seed) == ("t/j/1/0.png", 1, 7)


@pytest.mark.parametrize(("retry_for_s", "stopping"), [(0.0, False), (3600.0, True)])
def test_retries_end(retry_for_s: float, *, stopping: bool) -> None:
    """After the time limit, or when the worker stops, the error reaches the slot at once."""
    pauses = list[float]()
    with pytest.raises(StorageError):
        put_all(FlakyStore(1), [file(0)], RetryPolicy(retry_for_s, lambda: stopping, pauses.append))  # type: ignore[arg-type]
    assert pauses == []


def test_parallel_uploads_keep_their_order() -> None:
    """Several pictures are uploaded in parallel and returned in the order of the job."""
    store = FlakyStore(0)
    images = put_all(store, [file(n) for n in range(9)], RetryPolicy(0, lambda: False))  # type: ignore[arg-type]
    assert [image.n for image in images] == list(range(9))
    assert len(store.objects) == 9
    assert in_parallel(str, [7]) == ["7"]


def test_the_delay_of_a_postponed_job_doubles_up_to_a_minute() -> None:
    """The delay is 5, 10, 20, 40 and then always 60 s."""
    assert [postpone_s(n) for n in (1, 2, 3, 4, 5, 1000)] == [5, 10, 20, 40, 60, 60]
