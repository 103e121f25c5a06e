"""AMQP 1.0 messages as bytes: split into sections, and joined with new ones.

Section 3.2 of the standard. A message is passed on unchanged; only the sections of the broker are
encoded again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proton import Data, Described, symbol, timestamp, ubyte, uint, ulong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.emulators.servicebus_queue import Entry

HEADER, DELIVERY_ANNOTATIONS, ANNOTATIONS, PROPERTIES, APPLICATION, DATA = range(0x70, 0x76)
SECTION_START = b"\x00\x53"
BROKERS_OWN = (HEADER, DELIVERY_ANNOTATIONS, ANNOTATIONS)


def sections(encoded: bytes) -> Iterator[tuple[int, Any, bytes]]:
    """Yield the code, the value and the bytes of each section."""
    while encoded:
        data = Data()
        length = data.decode(encoded)
        data.rewind()
        data.next()
        described = data.get_py_described()
        value = described.value  # a binary is a view into `data`, valid only as long as `data`
        value = bytes(value) if isinstance(value, memoryview) else value
        yield int(described.descriptor), value, encoded[:length]
        encoded = encoded[length:]


def messages(encoded: bytes) -> list[bytes]:
    """Return the messages of one transfer. In a batch, each is encoded in its own data section.

    Proton hides the transfer's message format, which marks a batch, and `proton.Message` keeps only
    one of the data sections. So a batch is recognised by its data, which begin like a section.
    """
    found = [value for code, value, _ in sections(encoded) if code == DATA]
    if found and all(value.startswith(SECTION_START) for value in found):
        return found
    return [encoded]


def scheduled_at(encoded: bytes) -> float:
    """Return the scheduled time of a message in seconds since 1970; 0 if it is due at once."""
    for code, value, _ in sections(encoded):
        if code == ANNOTATIONS:
            return float(value.get(symbol("x-opt-scheduled-enqueue-time"), 0)) / 1000
    return 0.0


def outgoing(entry: Entry) -> bytes:
    """Encode a message for a receiver, with delivery count, number, times and reason."""
    annotations = {
        symbol("x-opt-sequence-number"): entry.number,
        symbol("x-opt-enqueued-time"): timestamp(int(entry.enqueued_at * 1000)),
        symbol("x-opt-locked-until"): timestamp(int(entry.due_at * 1000)),
    }
    header = [False, ubyte(4), None, entry.failures == 0, uint(entry.failures)]
    others, application = [], {}
    for code, value, raw in sections(entry.encoded):
        if code == APPLICATION:
            application = dict(value)
        elif code not in BROKERS_OWN:
            others.append((code, raw))
    if entry.reason is not None:
        application["DeadLetterReason"] = entry.reason
        application["DeadLetterErrorDescription"] = entry.description or ""
    parts = [_section(HEADER, header), _section(ANNOTATIONS, annotations)]
    parts += [raw for code, raw in others if code == PROPERTIES]
    if application:
        parts.append(_section(APPLICATION, application))
    return b"".join(parts + [raw for code, raw in others if code != PROPERTIES])


def _section(code: int, value: Any) -> bytes:
    data = Data()
    data.put_py_described(Described(ulong(code), value))
    return bytes(data.encode())
