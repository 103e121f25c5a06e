"""The memory queue in the conformance suite."""

from __future__ import annotations

from itertools import count
from urllib.parse import urlsplit

from renderfarm.queues.memory import LIMIT_BYTES, store
from tests.contract.queues.harness import Dead

NUMBERS = count()


class MemoryHarness:
    """There is no server: a queue is its name."""

    abilities = frozenset({"exclusive", "groups", "group_waits", "knows_lost", "counts"})
    short_lease_s = 0.2
    limit_bytes = LIMIT_BYTES

    def make(self, *, lease_s: float, max_deliveries: int, ordered: bool) -> str:
        """A name nobody has used; order within groups is always kept."""
        del ordered
        return f"memory://q{next(NUMBERS)}?lease_s={lease_s}&max_deliveries={max_deliveries}"

    def dead(self, url: str) -> list[Dead]:
        """Look into the store."""
        return [
            Dead(each.message.body, each.reason, each.message.attributes)
            for each in store(urlsplit(url).netloc).dead
        ]

    def missing(self) -> str:
        """A memory queue is there as soon as it is named."""
        raise NotImplementedError

    kill = restart = missing

    def stop(self) -> None:
        """Nothing runs."""
