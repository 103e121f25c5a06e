"""Queues: adapters for four services and one in memory that behave alike, to send and receive.

>>> from renderfarm.queues import open_queue
>>> with open_queue("sqs://eu-central-1/renders") as queue:
...     job_id = queue.send({"prompt": "a red circle on a blue background"})
"""

from renderfarm.queues.base import Message, Outgoing, Queue
from renderfarm.queues.errors import (
    BadAddress,
    MissingExtra,
    NotSent,
    QueueError,
    Refused,
    Unavailable,
)
from renderfarm.queues.registry import open_queue

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
