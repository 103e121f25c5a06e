"""SQS: entries and batches."""

from __future__ import annotations

import pytest

from renderfarm.queues import Outgoing
from renderfarm.queues.sqs_entries import LIMIT_BYTES, batches, entry, fault, size_bytes


@pytest.mark.parametrize("body", [b"", b"\xff", b"a\x00b", "\ufffe".encode()])
def test_what_sqs_cannot_carry_has_a_fault(body: bytes) -> None:
    """Empty bodies, bodies that are not UTF-8 and control characters are refused before sending."""
    assert fault(Outgoing(body)) is not None


def test_the_limit_counts_the_attributes() -> None:
    """A body of exactly the limit fits; with one attribute in addition it is too large."""
    body = b"x" * LIMIT_BYTES
    assert fault(Outgoing(body)) is None
    assert fault(Outgoing(body, attributes={"a": "b"})) == f"larger than {LIMIT_BYTES} bytes"


def test_batches_stay_within_both_limits() -> None:
    """No call has more than ten messages or 1 MiB; all messages are sent, in order."""
    sizes = [LIMIT_BYTES, *[1] * 23, LIMIT_BYTES // 2, LIMIT_BYTES // 2, 1]
    messages = [Outgoing(b"x" * size) for size in sizes]
    cut = list(batches(messages))
    assert [each for batch in cut for each in batch] == messages
    assert all(len(batch) <= 10 and sum(map(size_bytes, batch)) <= LIMIT_BYTES for batch in cut)
    assert [len(batch) for batch in cut] == [1, 10, 10, 4, 2]


def test_attributes_fit_what_sqs_takes() -> None:
    """Attributes after the tenth and those without a value are left out, not refused."""
    beside = {"empty": ""} | {f"a{n}": "v" for n in range(12)}
    made = entry(0, Outgoing(b"x", attributes=beside), fifo=False)
    assert list(made["MessageAttributes"]) == [f"a{n}" for n in range(10)]


def test_a_fifo_message_has_group_and_deduplication_id() -> None:
    """On a FIFO queue the id removes duplicates; without a group, each message is its own group."""
    alone, grouped = Outgoing(b"x", id="1"), Outgoing(b"x", id="2", group="g")
    assert entry(0, alone, fifo=True)["MessageGroupId"] == "1"
    made = entry(0, grouped, fifo=True)
    assert (made["MessageGroupId"], made["MessageDeduplicationId"]) == ("g", "2")
