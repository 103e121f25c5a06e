"""Closing: a closed queue leaves no thread, socket or prefetched message."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psutil

from renderfarm.queues import Outgoing, open_queue
from tests.contract.queues.harness import eventually, one, take

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place


def sockets() -> set[int]:
    """Return the open sockets of this process, by file descriptor."""
    return {each.fd for each in psutil.Process().net_connections("inet")}


def test_no_thread_and_no_socket_stays(place: Place) -> None:
    """After a close there are as many threads and sockets as before the use of the queue."""
    queue = place.queue()
    url = place.urls[id(queue)]
    queue.close()
    assert place.harness.dead(url) == []  # the harness opens its own connection here
    threads, open_before = set(threading.enumerate()), sockets()
    with open_queue(url) as used:
        used.put([Outgoing(b"x"), Outgoing(b"y"), Outgoing(b"z")])
        first, second, third = take(used, 3)
        used.extend([first, second])
        used.ack([first])
        used.retry([second])
        used.reject([third], "bad")
    eventually(lambda: set(threading.enumerate()) - threads, lambda left: not left)
    eventually(lambda: sockets() - open_before, lambda left: not left)


def test_closing_twice_does_nothing(place: Place) -> None:
    """A queue can be closed twice, and without being used."""
    queue = place.queue()
    queue.close()
    queue.close()


def test_what_was_fetched_ahead_is_handed_back(place: Place) -> None:
    """The prefetched messages of a closed consumer reach others before any lease ends."""
    queue = place.queue()
    queue.put([Outgoing(str(n).encode()) for n in range(10)])
    leaving = place.again(queue)
    mine = one(leaving)
    leaving.close()
    rest = {message.body for message in take(queue, 9)}
    assert rest == {str(n).encode() for n in range(10)} - {mine.body}


def test_handing_back_before_leaving(place: Place) -> None:
    """Messages that a consumer retries before its close reach others at once."""
    queue = place.queue()
    queue.put([Outgoing(str(n).encode()) for n in range(10)])
    with open_queue(place.urls[id(queue)]) as leaving:
        leaving.retry(take(leaving, 3))
    assert len({message.body for message in take(queue, 10)}) == 10
