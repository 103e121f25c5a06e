"""The store makes exactly the moves of `states.MOVES`, one statement each, in a real Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from app.jobs.records import Claim
from app.jobs.states import MOVES, Actor
from tests.integration.records import BUG, COSTS, HICCUP, LEASE_S, MAX, images

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tests.integration.records import FarmDatabase

pytestmark = pytest.mark.usefixtures("audited")


def test_the_store_makes_the_moves_of_the_table_and_no_others(farm: FarmDatabase) -> None:
    """The statements of each actor make exactly that actor's moves in `states.MOVES`."""
    moves: set[tuple[str | None, str, Actor, str]] = set()

    def step(actor: Actor, work: Callable[[], Any]) -> None:
        before = {row["id"]: row["status"] for row in farm.rows("SELECT id, status FROM jobs")}
        (newest,) = farm.rows("SELECT coalesce(max(id), 0) AS id FROM events")
        work()
        for row in farm.rows(
            """SELECT jobs.id, status, type FROM events JOIN jobs ON jobs.id = job_id
               WHERE events.id > :newest""",
            newest=newest["id"],
        ):
            moves.add((before.get(row["id"]), row["status"], actor, row["type"]))

    jobs = [farm.new() for _ in range(9)]
    step(Actor.ACCEPT, lambda: farm.insert(*jobs))
    waits, late, *rest = [job.id for job in jobs]
    step(Actor.WORKER, lambda: [farm.claimed(job_id) for job_id in rest])
    done, failed, retried, released, cancelled, expired, lost = rest
    step(Actor.HOLDER, lambda: farm.store.succeed(done, 1, [*images_of(farm, done)], COSTS))
    step(Actor.HOLDER, lambda: farm.store.fail(failed, 1, BUG, MAX))
    step(Actor.HOLDER, lambda: farm.store.fail(retried, 1, HICCUP, MAX))
    step(Actor.HOLDER, lambda: farm.store.release(released, 1))
    step(Actor.TENANT, lambda: farm.store.cancel(cancelled, farm.tenant.id))
    step(Actor.TENANT, lambda: farm.store.cancel(waits, farm.tenant.id))
    for job_id in (late, expired):
        farm.outdate(job_id)
    step(Actor.REAPER, farm.store.expire)
    for _ in range(2):
        farm.lose(lost)
        step(Actor.REAPER, lambda: farm.store.rescue(2))
        if farm.state(lost)[0] == "queued":
            step(Actor.WORKER, lambda: farm.claimed(lost))
    farm.finish(farm.claimed(farm.shared()))
    answered = farm.shared()
    assert (farm.state(answered), farm.events(answered)) == (
        ("succeeded", 0), ["queued", "succeeded"],
    )  # fmt: skip
    moves.add(("queued", "succeeded", Actor.ACCEPT, "succeeded"))
    assert moves == {(m.before, m.after, m.actor, m.event) for m in MOVES}


def images_of(farm: FarmDatabase, job_id: UUID) -> Any:
    """The images of a job's first attempt."""
    row = farm.job(job_id)
    return images(Claim(job_id, row["tenant_id"], 1, row["request"], exclusive=False))


def test_each_move_is_one_statement(farm: FarmDatabase) -> None:
    """A claim, a renewal and a cancel are one statement each, followed by a notice.

    For an event of webhooks, one query of the tenant's endpoints comes between them.
    """
    statements: list[str] = []

    def note(*args: Any) -> None:
        statements.append(args[2])

    job_id = farm.queued()
    event.listen(farm.engine, "before_cursor_execute", note)
    try:
        farm.store.claim(job_id, "w", LEASE_S)
        farm.store.renew({(job_id, 1): 1}, LEASE_S)
        farm.store.release(job_id, 1)
        farm.store.cancel(job_id, farm.tenant.id)
    finally:
        event.remove(farm.engine, "before_cursor_execute", note)
    queries = [statement for statement in statements if "FROM endpoints" in statement]
    rest = [statement for statement in statements if statement not in queries]
    moves = [statement for statement in rest if "pg_notify" not in statement]
    assert (len(queries), len(moves)) == (2, 4)
    assert rest[1::2] == [s for s in rest if "pg_notify" in s]
