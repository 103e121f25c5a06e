"""Pub/Sub: batches of messages with one ordering key each."""

from __future__ import annotations

from renderfarm.queues import Outgoing
from renderfarm.queues.pubsub import BATCH, LIMIT_BYTES, _batches


def test_keys_are_not_mixed() -> None:
    """A batch has one key only, and the messages of a key keep their order."""
    messages = [Outgoing(str(n).encode(), group="ab"[n % 2]) for n in range(6)]
    cut = list(_batches(messages))
    assert [[each.body for each in batch] for batch in cut] == [
        [b"0", b"2", b"4"],
        [b"1", b"3", b"5"],
    ]


def test_requests_stay_within_the_limits() -> None:
    """No batch has more than 1,000 messages or 10 MB."""
    large = Outgoing(b"x" * (LIMIT_BYTES // 2))
    small = [Outgoing(b"x") for _ in range(BATCH + 1)]
    cut = list(_batches([large, large, *small]))
    assert sum(len(batch) for batch in cut) == BATCH + 3
    for batch in cut:
        assert len(batch) <= BATCH
        assert sum(len(each.body) for each in batch) <= LIMIT_BYTES


def test_nothing_is_no_request() -> None:
    """An empty batch makes no call."""
    assert list(_batches([])) == []
