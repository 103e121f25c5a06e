"""The killed couriers in short.

The long form is `killed_couriers.py` as a program: `make kill-couriers`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.integration.courier import killed_couriers

if TYPE_CHECKING:
    from tests.integration.courier.records import Records


def test_killed_couriers_lose_nothing_and_follow_nobody(records: Records) -> None:
    """Healthy endpoints get each webhook, broken ones end as dead, and no redirect is followed.

    What was posted and not yet written down when a courier is killed comes twice. How much that is
    depends on how busy the machine is, so it is judged where it is measured.
    """
    short = {"lease_s": 4.0, "limit_s": 0.5}
    found = asyncio.run(killed_couriers.run(records, webhooks=200, per_s=100, **short))
    assert killed_couriers.verdict(found) == []
