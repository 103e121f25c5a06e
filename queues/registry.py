"""Registry of adapters: opens the queue of a URL, and imports a service's SDK at first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from renderfarm.queues.address import Address
from renderfarm.queues.errors import BadAddress, MissingExtra

if TYPE_CHECKING:
    from renderfarm.queues.base import Queue

MODULES = {
    "memory": "renderfarm.queues.memory",
    "redis": "renderfarm.queues.redis_stream",
    "rediss": "renderfarm.queues.redis_stream",
    "sqs": "renderfarm.queues.sqs",
    "pubsub": "renderfarm.queues.pubsub",
    "servicebus": "renderfarm.queues.servicebus",
}
"""The module of each scheme."""

EXTRAS: dict[str, str] = {
    "renderfarm.queues.redis_stream": "redis",
    "renderfarm.queues.sqs": "sqs",
    "renderfarm.queues.pubsub": "pubsub",
    "renderfarm.queues.servicebus": "servicebus",
}
"""The wheel's extra that installs a module's SDK."""


def open_queue(url: str) -> Queue:
    """Open the queue at `url`. Nothing is sent over the network until a verb is called.

    Raises `BadAddress` for an invalid URL, `MissingExtra` if the SDK is not installed.
    """
    scheme = url.partition("://")[0]
    module = MODULES.get(scheme)
    if module is None:
        known = ", ".join(f"{name}://" for name in MODULES)
        raise BadAddress(f"a queue's URL starts with one of {known}, not with {scheme!r}")
    try:
        adapter = import_module(module)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(module)
        if extra is None or (error.name or "").startswith("renderfarm.queues"):
            raise
        raise MissingExtra(
            f"{scheme}:// needs {error.name}: pip install 'renderfarm[{extra}]'"
        ) from error
    return cast("Queue", adapter.open_address(Address.parse(url)))
