"""Messages that cannot become jobs, one of each kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

from renderfarm.queues import NotSent, Outgoing

if TYPE_CHECKING:
    from renderfarm.queues import Queue


def of_every_kind(tag: str) -> dict[str, tuple[str, bytes]]:
    """By kind: the code of its reason, and a body that carries `tag`."""

    def body(**fields: object) -> bytes:
        return json.dumps({"id": str(uuid4()), "prompt": tag, **fields}).encode()

    return {
        "not JSON": ("invalid_json", f"prompt={tag}".encode()),
        "wrong schema": ("invalid_request", body(promt="a typo")),
        "no object": ("invalid_request", json.dumps([tag]).encode()),
        "NUL in a field's name": ("invalid_request", body(**{"a\0b": 1})),
        "unknown model": ("unknown_model", body(model="nobody")),
        "over limits": ("invalid_request", body(width=100_000)),
        "300 KB": ("too_large", body(negative_prompt="x" * 300_000)),
        "invalid UTF-8": ("invalid_json", b'{"prompt": "' + tag.encode() + b'\xff\xfe"}'),
        "webhook to nowhere": ("invalid_request", body(webhook={"url": "ftp://x"})),
    }


def send(queue: Queue, count: int) -> dict[bytes, str]:
    """Send `count` bad messages, of all kinds in turn. Return the expected codes by body.

    What the service refuses to carry is left out: SQS takes no invalid UTF-8, Service Bus no 300
    KB.
    """
    sent: dict[bytes, str] = {}
    turn = 0
    while len(sent) < count:
        kinds = of_every_kind(f"bad{turn}").values()
        for code, body in list(kinds)[: count - len(sent)]:
            try:
                queue.put([Outgoing(body)])
            except NotSent:
                continue
            sent[body] = code
        turn += 1
    return sent
