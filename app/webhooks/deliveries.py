"""Outbox statements: claim due deliveries and record their results. One statement each.

A claim moves a row's `next_try_at` ahead, as a lease: the courier has that long to record the
result. If it dies, the row is due again when the lease runs out. The time of the lease is also its
fence: a late courier finds another time there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from app.webhooks import health
from app.webhooks.schedule import Answer, Answered, Dead, Decision, Delivered, RetryAt, failure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import RowMapping

LEASE_S = 60.0
"""Much longer than one post can take, so that only the leases of dead couriers run out."""

WINDOW = 1000
"""How many due rows one claim reads, oldest first."""

# An endpoint is one tenant's host. Each has at most `cap` deliveries in flight in this courier.
# Rows of a full endpoint are skipped, so a slow customer delays no other. A pending row goes to its
# endpoint's current URL, even if it was written before the change.
_CLAIM = text("""
WITH busy AS (
    SELECT key AS endpoint, CAST(value AS integer) AS n
    FROM jsonb_each_text(CAST(:in_flight AS jsonb))
), due AS (
    SELECT o.id, o.next_try_at, now_at.url, named.endpoint, coalesce(busy.n, 0) AS n
    FROM outbox AS o LEFT JOIN endpoints AS e ON e.id = o.endpoint_id
    CROSS JOIN LATERAL (SELECT coalesce(e.url, o.url) AS url) AS now_at
    CROSS JOIN LATERAL (
        SELECT o.tenant_id || ' ' || lower(substring(now_at.url from '//([^/?#]*)')) AS endpoint
    ) AS named
    LEFT JOIN busy USING (endpoint)
    WHERE o.state = 'pending' AND o.next_try_at <= now() AND coalesce(busy.n, 0) < :cap
    ORDER BY o.next_try_at LIMIT :window
), ranked AS (
    SELECT id, url, endpoint, n + row_number() OVER (PARTITION BY endpoint ORDER BY next_try_at) AS nth
    FROM due
), taken AS (
    SELECT o.id, ranked.url, ranked.endpoint
    FROM outbox AS o JOIN ranked USING (id)
    WHERE o.state = 'pending' AND o.next_try_at <= now() AND ranked.nth <= :cap
    ORDER BY o.next_try_at LIMIT :room
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE outbox AS o SET next_try_at = now() + make_interval(secs => :lease_s), url = taken.url
FROM taken WHERE o.id = taken.id
RETURNING o.id, o.job_id, o.type, o.url, o.payload, o.tries, taken.endpoint,
          o.next_try_at AS leased_until, (SELECT trace FROM jobs WHERE jobs.id = o.job_id) AS trace,
          (SELECT url_expiry_s FROM tenants AS t WHERE t.id = o.tenant_id) AS url_expiry_s,
          (SELECT CASE e.state WHEN 'disabled' THEN 'disabled' WHEN 'deleted' THEN 'removed' END
           FROM endpoints AS e WHERE e.id = o.endpoint_id) AS stopped,
          CASE WHEN o.endpoint_id IS NULL
               THEN (SELECT ARRAY[o.secret, t.webhook_secret, CASE WHEN t.old_secret_until > now()
                                                          THEN t.old_webhook_secret END]
                     FROM tenants AS t WHERE t.id = o.tenant_id)
               ELSE (SELECT ARRAY[e.secret, CASE WHEN e.old_secret_until > now()
                                                 THEN e.old_secret END]
                     FROM endpoints AS e WHERE e.id = o.endpoint_id)
          END AS secrets
""")
"""Secrets are read at each try, so that the currently valid ones sign. Rows that an earlier version
wrote have their own secret.
"""

_SETTLE = text("""
WITH tried AS (
    SELECT * FROM unnest(
        CAST(:id AS uuid[]), CAST(:leased_until AS timestamptz[]), CAST(:state AS text[]),
        CAST(:status AS integer[]), CAST(:error AS text[]), CAST(:answer AS text[]),
        CAST(:took_s AS double precision[]), CAST(:delay_s AS double precision[])
    ) AS t (id, leased_until, state, status, error, answer, took_s, delay_s)
), settled AS (
    UPDATE outbox AS o SET
        state = t.state,
        tries = o.tries + 1,
        last_status = t.status,
        last_error = t.error,
        delivered_at = CASE WHEN t.state = 'delivered' THEN now() END,
        next_try_at = now() + make_interval(secs => t.delay_s)
    FROM tried AS t
    WHERE o.id = t.id AND o.state = 'pending' AND o.next_try_at = t.leased_until
    RETURNING o.id, o.job_id, o.endpoint_id, t.status, t.error, t.answer, t.took_s
), logged AS (
    INSERT INTO tries (delivery_id, status, error, answer, took_s)
    SELECT id, status, error, answer, took_s FROM settled
)
SELECT id, job_id, endpoint_id FROM settled ORDER BY endpoint_id
""")
"""Ordered by endpoint, so that two couriers lock the rows of `endpoints` in one order."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One outbox row, leased until `leased_until`. `tries` counts the tries before this one.

    `trace` is the traceparent of the job's submission. `stopped` says why the endpoint receives
    nothing more: a job that ended just before still saw it enabled.
    """

    id: UUID
    job_id: UUID
    type: str
    url: str
    secrets: tuple[str, ...]
    payload: dict[str, Any]
    tries: int
    endpoint: str
    leased_until: datetime
    trace: str | None = None
    url_expiry_s: int | None = None
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Try:
    """The result of one post, and what follows from it; it took `took_s` seconds."""

    delivery: Delivery
    answer: Answer
    decision: Decision
    took_s: float = 0.0


class Outbox:
    """The outbox of one database. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine, *, lease_s: float = LEASE_S) -> None:
        self._engine = engine
        self._lease_s = lease_s

    def claim(self, *, room: int, cap: int, in_flight: Mapping[str, int]) -> list[Delivery]:
        """Claim up to `room` due rows, so that no endpoint has more than `cap` in flight.

        `in_flight` counts the deliveries that this courier holds, by `Delivery.endpoint`.
        """
        values = {
            "room": room,
            "cap": cap,
            "in_flight": json.dumps(dict(in_flight)),
            "window": WINDOW,
            "lease_s": self._lease_s,
        }
        with self._engine.begin() as connection:
            rows = connection.execute(_CLAIM, values).mappings().all()
        return [_delivery(row) for row in rows]

    def settle(self, *tries: Try) -> set[UUID]:
        """Record tries and what follows from them, in one transaction.

        Returns the ids of the deliveries whose lease still held; the others did not change.
        """
        rows = [_settlement(each) for each in tries]
        values = {name: [row[name] for row in rows] for name in rows[0]}
        answers = {each.delivery.id: each.answer for each in tries}
        with self._engine.begin() as connection:
            settled = connection.execute(_SETTLE, values).all()
            for row in settled:
                if row.endpoint_id is not None:
                    health.note(connection, row.endpoint_id, row.job_id, answers[row.id])
        return {row.id for row in settled}


def _delivery(row: RowMapping) -> Delivery:
    secrets = tuple(dict.fromkeys(each for each in row["secrets"] if each))
    return Delivery(**{**row, "secrets": secrets})


def _settlement(tried: Try) -> dict[str, Any]:
    answer, decision = tried.answer, tried.decision
    return {
        "id": tried.delivery.id,
        "leased_until": tried.delivery.leased_until,
        "state": _state(decision),
        "status": answer.status if isinstance(answer, Answered) else None,
        "error": decision.reason if isinstance(decision, Dead) else failure(answer),
        "answer": answer.excerpt if isinstance(answer, Answered) else "",
        "took_s": tried.took_s,
        "delay_s": decision.delay_s if isinstance(decision, RetryAt) else 0.0,
    }


def _state(decision: Decision) -> str:
    match decision:
        case Delivered():
            return "delivered"
        case Dead():
            return "dead"
        case RetryAt():
            return "pending"
