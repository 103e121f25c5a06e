"""Queues of four services and one in memory, with one behaviour; both ends, send and receive.

>>> from queues import open_queue
>>> with open_queue("sqs://eu-central-1/renders") as queue:
...     job_id = queue.send({"prompt": "a red circle on a blue background"})
"""

from queues.base import Message, Outgoing, Queue
from queues.errors import (
    BadAddress,
    MissingExtra,
    NotSent,
    QueueError,
    Refused,
    Unavailable,
)
from queues.opening import open_queue

__all__ = [
    "BadAddress",
    "Message",
    "MissingExtra",
    "NotSent",
    "Outgoing",
    "Queue",
    "QueueError",
    "Refused",
    "Unavailable",
    "open_queue",
]
