"""Limits (admission control, rate limit, quota): queued jobs, requests a second, GPU-seconds a day.

The limit on running jobs (`max_running`) is enforced by the claim, in `app.jobs.store`.
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

COUNT_VALID_S = 0.5
"""How long a count of the queued jobs is trusted while the limit is far."""
FULL_S = 0.1
"""How long a tenant at its limit is refused without a new count."""
UNCOUNTED_JOBS = 50
"""A submission of more jobs than this is always counted."""
RETRY_AFTER_S = 5
_LOCK = "SELECT pg_advisory_xact_lock{shared}(7236003, hashtext(CAST(:tenant AS text)))"
_COUNT = text("""
SELECT count(*) FROM (SELECT 1 FROM jobs WHERE tenant_id = :tenant AND status = 'queued'
                      LIMIT :most) AS queued
""")
# The generic cell rate algorithm (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
# Each request moves `full_at`, when the allowance is full again, on by one request's share. It
# passes if `full_at` is then at most a second ahead (or one share, if a share is longer).
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
       extract(epoch FROM today + 1 - now() AT TIME ZONE 'UTC')::float AS rest_s
FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS utc
""")


@dataclass(slots=True)
class _Count:
    """The last count of a tenant's queued jobs, and the jobs `added` by this process since.

    Valid until `until_s` on the quota's clock.
    """

    queued: int
    until_s: float
    added: int = 0


class Quota:
    """Enforces `max_queued`. Belongs to one process's store; safe from any thread.

    If each submission counted all queued jobs, a long backlog would make submissions slow. Far from
    the limit, a count is trusted for `COUNT_VALID_S`, and submissions share the tenant's advisory
    lock. Close to the limit, each submission counts, with the lock for itself alone: it sees every
    earlier submission committed, and two submissions at once do not both get the last place.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[UUID, _Count] = {}
        self._full_until_s: dict[UUID, float] = {}

    def full(self, tenant: UUID) -> bool:
        """Whether a count less than `FULL_S` ago found the tenant at its limit."""
        return self._full_until_s.get(tenant, 0.0) > self._clock()

    def enter(self, connection: Connection, tenant: UUID, most: int, adding: int) -> bool:
        """Begin a submission of `adding` jobs; returns whether the caller must `check` it."""
        last = self._counts.get(tenant)
        far = (
            last is not None
            and self._clock() < last.until_s
            and adding <= UNCOUNTED_JOBS
            and last.queued + last.added + adding + margin(most) <= most
        )
        lock = _LOCK.format(shared="_shared" if far else "")
        connection.execute(text(lock), {"tenant": str(tenant)})
        if far and last is not None:
            last.added += adding
        return not far

    def check(self, connection: Connection, tenant: UUID, most: int) -> None:
        """Count the queued jobs with the new ones; raises `OverQuota` if they exceed `most`."""
        began = self._clock()
        queued = count_queued(connection, tenant, most + 1)
        now = self._clock()
        if queued > most:
            self._full_until_s[tenant] = now + FULL_S
            raise over_queued(most)
        self._counts[tenant] = _Count(queued, now + max(COUNT_VALID_S, 50 * (now - began)))


def count_queued(connection: Connection, tenant: UUID, at_most: int) -> int:
    """How many jobs of the tenant are queued. Counts no further than `at_most`."""
    values = {"tenant": tenant, "most": at_most}
    return int(connection.execute(_COUNT, values).scalar_one())


def margin(most: int) -> int:
    """The distance from the limit at which a count is trusted, in jobs.

    It exceeds the number of jobs that all processes can add while a count is valid.
    """
    return max(1000, most // 4)


def over_queued(most: int) -> OverQuota:
    """The refusal for a tenant that has too many queued jobs."""
    return OverQuota(f"at most {most} jobs may be queued", RETRY_AFTER_S)


def spend_request(engine: Engine, tenant: Tenant) -> None:
    """Take one request off the tenant's allowance; raises `OverQuota` if the allowance is empty."""
    rate = tenant.max_requests_per_s
    if rate is None:
        return
    values = {"tenant": tenant.id, "each": timedelta(seconds=1 / rate)}
    with autocommit(engine).connect() as connection:
        if connection.execute(_SPEND, values).first() is None:
            raise OverQuota(f"at most {rate:g} requests a second", max(1, math.ceil(1 / rate)))


def check_day(engine: Engine, tenant: Tenant) -> None:
    """Raise `OverQuota` if the tenant has used up today's GPU-seconds. Days are days in UTC."""
    most = tenant.max_gpu_seconds_per_day
    if most is None:
        return
    with autocommit(engine).connect() as connection:
        used, rest_s = connection.execute(_TODAY, {"tenant": tenant.id}).one()
    if used >= most:
        raise OverQuota(f"today's {most:g} GPU-seconds are used up", math.ceil(rest_s))
