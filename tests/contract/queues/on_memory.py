"""The memory queue in the conformance suite."""

from __future__ import annotations

from itertools import count
from urllib.parse import urlsplit

from renderfarm.queues.memory import LIMIT_BYTES, store
from tests.contract.queues.harness import Dead

NUMBERS = count()


class MemoryHarness:
    """There is no server: a queue exists by its name."""

    abilities = frozenset({"exclusive", "groups", "group_waits", "knows_lost", "counts"})
    short_lease_s = 0.2
    limit_bytes = LIMIT_BYTES

    def make(self, *, lease_s: float, max_deliveries: int, ordered: bool) -> str:
        """Return a new name; order within groups is always kept."""
        del ordered
        return f"memory://q{next(NUMBERS)}?lease_s={lease_s}&max_deliveries={max_deliveries}"

    def dead(self, url: str) -> list[Dead]:
        """Return the dead letters of the store."""
        return [
            Dead(each.message.body, each.reason, each.message.attributes)
            for each in store(urlsplit(url).netloc).dead
        ]

    def missing(self) -> str:
        """No URL: a memory queue exists as soon as it is named."""
        raise NotImplementedError

    kill = restart = missing

    def stop(self) -> None:
        """Do nothing: no server runs."""
