"""What a tenant may ask for: jobs that wait, requests a second, GPU-seconds a day.

How many of its jobs may run at a time is held where they are claimed, in `store`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text

from app.database import autocommit
from app.errors import OverQuota

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from app.tenants.tenants import Tenant

LOOK_S = 0.5
"""How long a count of what waits is trusted, while the limit is far."""
FULL_S = 0.1
"""How long a tenant that was found full is refused without counting again."""
FEW = 50
"""Larger submissions are always counted."""
RETRY_AFTER_S = 5
_LOCK = "SELECT pg_advisory_xact_lock{shared}(7236003, hashtext(CAST(:tenant AS text)))"
_COUNT = """
SELECT count(*) FROM (SELECT 1 FROM jobs WHERE tenant_id = :tenant AND status = 'queued'
                      LIMIT :most) AS waiting
"""
# The generic cell rate algorithm: the time at which the allowance is full again moves on by one
# request's share, if that is no more than a second ahead (or one request, where that is longer).
_SPEND = text("""
INSERT INTO rates AS r (tenant_id, full_at) VALUES (:tenant, clock_timestamp() + :each)
ON CONFLICT (tenant_id) DO UPDATE SET full_at = greatest(r.full_at, clock_timestamp()) + :each
WHERE r.full_at + :each <= clock_timestamp() + greatest(:each, interval '1 s')
RETURNING full_at
""")
_TODAY = text("""
SELECT (SELECT coalesce(sum(gpu_seconds), 0) FROM usage
        WHERE tenant_id = :tenant AND day = today)
     + (SELECT coalesce(sum(gpu_seconds), 0) FROM usage_entries
        WHERE tenant_id = :tenant AND day = today) AS used,
       extract(epoch FROM today + 1 - now() AT TIME ZONE 'UTC')::float AS left_s
FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS utc
""")


@dataclass(slots=True)
class _Seen:
    """What was found at the last count: `waiting` then, `added` by this process since."""

    waiting: int
    until_s: float
    added: int = 0


class Quota:
    """Holds `max_queued`. Belongs to one process's store; safe from any thread.

    Counting all that waits for each submission would make a long backlog slow to submit to. Far
    from the limit a count is trusted for a moment. Close to it each submission counts, alone: it
    takes the tenant's lock for itself, which the others share, so none is overlooked because it is
    not committed yet, and two at once do not both get the last place.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[UUID, _Seen] = {}
        self._full_until_s: dict[UUID, float] = {}

    def full(self, tenant: UUID) -> bool:
        """Whether the tenant was found full just now."""
        return self._full_until_s.get(tenant, 0.0) > self._clock()

    def enter(self, connection: Connection, tenant: UUID, most: int, adding: int) -> bool:
        """Begin a submission of `adding` jobs; whether it is to be counted afterwards."""
        seen = self._seen.get(tenant)
        far = (
            seen is not None
            and self._clock() < seen.until_s
            and adding <= FEW
            and seen.waiting + seen.added + adding + margin(most) <= most
        )
        lock = _LOCK.format(shared="_shared" if far else "")
        connection.execute(text(lock), {"tenant": str(tenant)})
        if far and seen is not None:
            seen.added += adding
        return not far

    def check(self, connection: Connection, tenant: UUID, most: int) -> None:
        """Count what waits, the new ones included; raises `OverQuota` if that is too many."""
        began = self._clock()
        values = {"tenant": tenant, "most": most + 1}
        waiting = connection.execute(text(_COUNT), values).scalar_one()
        now = self._clock()
        if waiting > most:
            self._full_until_s[tenant] = now + FULL_S
            raise over_queued(most)
        self._seen[tenant] = _Seen(waiting, now + max(LOOK_S, 50 * (now - began)))


def margin(most: int) -> int:
    """How far from the limit a count is trusted: more than all processes add in that moment."""
    return max(1000, most // 4)


def over_queued(most: int) -> OverQuota:
    """The refusal of a tenant of whose jobs too many wait."""
    return OverQuota(f"at most {most} jobs may be queued", RETRY_AFTER_S)


def spend_request(engine: Engine, tenant: Tenant) -> None:
    """Take one request off the tenant's allowance; raises `OverQuota` when there is none left."""
    rate = tenant.max_requests_per_s
    if rate is None:
        return
    values = {"tenant": tenant.id, "each": timedelta(seconds=1 / rate)}
    with autocommit(engine).connect() as connection:
        if connection.execute(_SPEND, values).first() is None:
            raise OverQuota(f"at most {rate:g} requests a second", max(1, math.ceil(1 / rate)))


def check_day(engine: Engine, tenant: Tenant) -> None:
    """Raise `OverQuota` if the tenant has used up today's GPU-seconds. Days are UTC's."""
    most = tenant.max_gpu_seconds_per_day
    if most is None:
        return
    with autocommit(engine).connect() as connection:
        used, left_s = connection.execute(_TODAY, {"tenant": tenant.id}).one()
    if used >= most:
        raise OverQuota(f"today's {most:g} GPU-seconds are used up", math.ceil(left_s))
