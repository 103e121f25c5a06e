"""The statements that change a job, each against a real Postgres."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from app.errors import IdempotencyConflict, OverQuota
from app.jobs.ids import new_id
from app.jobs.records import Claim, Failure
from app.jobs.states import MOVES, Actor
from tests.integration.records import COSTS, LEASE_S, Farm, images
from tests.integration.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from app.jobs.store import Store

BUG = Failure("bad_image", "not a picture")
HICCUP = Failure("storage_unavailable", "try later", transient=True)
MAX = 3


@pytest.fixture(autouse=True)
def _audited(farm: Farm) -> Iterator[None]:
    """After every test here the records hold every invariant."""
    yield
    assert farm.breaches() == []


# --- accept


def test_a_submission_becomes_a_queued_job(farm: Farm) -> None:
    """The row has what was asked, waits for its first attempt, and its log begins."""
    new = farm.new(priority=5, deadline_s=90.5)
    (stored,) = farm.insert(new)
    row = stored.row
    assert stored.created
    assert (row["id"], row["status"], row["attempt"], row["steps"]) == (new.id, "queued", 0, 10)
    assert (row["request"], row["model"], row["priority"]) == (new.request, "null", 5)
    assert row["deadline_at"] - row["created_at"] == timedelta(seconds=90.5)
    assert farm.events(new.id) == ["queued"]


def test_a_repeat_answers_with_the_first_job(farm: Farm) -> None:
    """The same key with the same body is the same job, however far it has come."""
    (first,) = farm.insert(farm.new("k"))
    farm.finish(farm.claimed(first.row["id"]))
    (again,) = farm.insert(farm.new("k"))
    assert not again.created
    assert (again.row["id"], again.row["status"]) == (first.row["id"], "succeeded")
    assert farm.events(first.row["id"]).count("queued") == 1


def test_the_same_key_with_another_body_names_both_hashes(farm: Farm) -> None:
    """A key used twice for different things is a conflict, and nothing is stored."""
    (first,) = farm.insert(farm.new("k"))
    other = farm.new("k")
    other = type(other)(other.id, other.tenant_id, "k", bytes(32), other.request)
    with pytest.raises(IdempotencyConflict) as caught:
        farm.insert(other)
    assert bytes(32).hex() in caught.value.detail
    assert bytes(first.row["request_hash"]).hex() in caught.value.detail
    assert len(farm.rows("SELECT id FROM jobs")) == 1


def test_tenants_have_their_own_keys(farm: Farm) -> None:
    """One tenant's key says nothing about another's."""
    one, other = farm.insert(farm.new("k")), farm.insert(farm.new("k", farm.other))
    assert one[0].row["id"] != other[0].row["id"]
    assert other[0].created


def test_an_id_that_is_anothers_cannot_be_had(farm: Farm) -> None:
    """A producer that brings the id of another tenant's job learns nothing and changes nothing."""
    job_id = farm.queued()
    theirs = farm.new(tenant=farm.other)
    stolen = type(theirs)(job_id, theirs.tenant_id, str(job_id), bytes(32), theirs.request)
    with pytest.raises(IdempotencyConflict, match="in use") as caught:
        farm.insert(stolen)
    assert farm.tenant.name not in str(caught.value)
    assert farm.job(job_id)["tenant_id"] == farm.tenant.id


def test_a_batch_is_stored_whole_or_not_at_all(farm: Farm) -> None:
    """One conflict among many leaves nothing of the others behind."""
    farm.insert(farm.new("taken"))
    bad = farm.new("taken")
    bad = type(bad)(bad.id, bad.tenant_id, "taken", bytes(32), bad.request)
    with pytest.raises(IdempotencyConflict):
        farm.insert(farm.new("a"), bad, farm.new("b"))
    assert [row["idempotency_key"] for row in farm.rows("SELECT * FROM jobs")] == ["taken"]
    assert len(farm.rows("SELECT * FROM events")) == 1


def test_a_batch_answers_in_its_order(farm: Farm) -> None:
    """Each submission has its answer in its place, old jobs among new."""
    farm.insert(farm.new("m"))
    keys = ["z", "m", "a", "q"]
    answers = farm.insert(*(farm.new(key) for key in keys))
    assert [answer.row["idempotency_key"] for answer in answers] == keys
    assert [answer.created for answer in answers] == [True, False, True, True]


def test_a_batch_that_names_one_key_twice_makes_one_job(farm: Farm) -> None:
    """Twins within a batch are one job."""
    answers = farm.insert(farm.new("k"), farm.new("k"))
    assert len({answer.row["id"] for answer in answers}) == 1
    assert sorted(answer.created for answer in answers) == [False, True]


def test_the_quota_counts_what_waits_and_stores_nothing_beyond(farm: Farm) -> None:
    """Over the limit nothing is stored; a repeat, or a tenant with nothing waiting, passes."""
    farm.insert(farm.new("a"), farm.new("b"), max_queued=2)
    with pytest.raises(OverQuota):
        farm.insert(farm.new("c"), max_queued=2)
    assert len(farm.rows("SELECT id FROM jobs")) == 2
    assert not farm.insert(farm.new("a"), max_queued=2)[0].created
    assert farm.insert(farm.new("c", farm.other), max_queued=2)[0].created
    farm.claimed(farm.rows("SELECT id FROM jobs WHERE idempotency_key = 'a'")[0]["id"])
    until(lambda: not farm.store._quota.full(farm.tenant.id))
    assert farm.insert(farm.new("c"), max_queued=2)[0].created


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work` answers to so many threads that start together."""
    gate = threading.Barrier(count)

    def run(n: int) -> Any:
        gate.wait()
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_fifty_parallel_submissions_of_one_key_make_one_job(farm: Farm) -> None:
    """However many submit one key at once, one makes the job and all are told of it."""
    new = [farm.new("k") for _ in range(50)]
    answers = at_once(50, lambda n: farm.insert(new[n])[0])
    assert len({answer.row["id"] for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1


def test_parallel_batches_of_the_same_keys_do_not_block_each_other(farm: Farm) -> None:
    """Batches that name the same keys in other orders all end, with one job a key."""
    keys = [f"k{n}" for n in range(20)]

    def work(n: int) -> list[UUID]:
        order = keys[n:] + keys[:n] if n % 2 else list(reversed(keys))
        return [a.row["id"] for a in farm.insert(*(farm.new(key) for key in order))]

    answers = at_once(8, work)
    assert len({job_id for ids in answers for job_id in ids}) == 20


# --- claim


def test_a_claim_takes_the_job_and_its_lease(farm: Farm) -> None:
    """The claimed job runs as attempt 1 of that worker, for so long as the lease says."""
    job_id = farm.queued()
    farm.store.hint([job_id])
    claim = farm.store.claim(job_id, "w", LEASE_S)
    row = farm.job(job_id)
    assert claim == Claim(job_id, farm.tenant.id, 1, row["request"], alone=False)
    assert (row["status"], row["attempt"], row["worker_id"]) == ("running", 1, "w")
    assert row["lease_until"] - row["started_at"] == timedelta(seconds=LEASE_S)
    assert row["hinted_at"] is None
    assert farm.events(job_id) == ["queued", "running"]


def test_one_of_many_claims_gets_the_job(farm: Farm) -> None:
    """A second hint for the same job claims nothing."""
    job_id = farm.queued()
    claims = at_once(12, lambda n: farm.store.claim(job_id, f"w{n}", LEASE_S))
    (claim,) = [claim for claim in claims if claim]
    assert claim.attempt == 1
    assert farm.events(job_id) == ["queued", "running"]


def test_what_is_not_due_or_not_there_cannot_be_claimed(farm: Farm) -> None:
    """A job whose retry lies ahead, whose deadline has passed, or that ended is not given out."""
    waits, late, ended = farm.queued(), farm.queued(), farm.queued()
    farm.execute("UPDATE jobs SET run_after = now() + interval '1 h' WHERE id = :i", i=waits)
    farm.outdate(late)
    farm.store.cancel(ended, farm.tenant.id)
    for job_id in (waits, late, ended, new_id()):
        assert farm.store.claim(job_id, "w", LEASE_S) is None
    farm.store.expire()


# --- renew


def test_a_renewal_lengthens_the_lease_and_notes_the_step(farm: Farm) -> None:
    """Held jobs, and only those, get a new lease and their progress."""
    one, two, idle = farm.claimed(), farm.claimed(), farm.claimed()
    before = farm.job(one.id)["lease_until"], farm.job(idle.id)["lease_until"]
    held = farm.store.renew({(one.id, 1): 3, (two.id, 1): 99}, 1000.0)
    assert held == {(one.id, 1), (two.id, 1)}
    after = farm.job(one.id)
    assert after["lease_until"] > before[0] + timedelta(seconds=900)
    assert (after["step"], farm.job(two.id)["step"]) == (3, 10)
    assert farm.job(idle.id)["lease_until"] == before[1]


def test_progress_never_goes_back(farm: Farm) -> None:
    """A step once reported stays, though a later renewal knows of fewer."""
    claim = farm.claimed()
    farm.store.renew({(claim.id, 1): 5}, LEASE_S)
    farm.store.renew({(claim.id, 1): 0}, LEASE_S)
    assert farm.job(claim.id)["step"] == 5


def test_a_renewal_tells_what_is_no_longer_held(farm: Farm) -> None:
    """Cancelled, finished, released and unknown jobs, and older attempts, are not renewed."""
    cancelled, done, old = farm.claimed(), farm.claimed(), farm.claimed()
    farm.store.cancel(cancelled.id, farm.tenant.id)
    farm.finish(done)
    farm.store.release(old.id, 1)
    new = farm.claimed(old.id)
    claims = [(cancelled.id, 1), (done.id, 1), (old.id, 1), (new_id(), 1), (old.id, new.attempt)]
    assert farm.store.renew(dict.fromkeys(claims, 0), LEASE_S) == {(old.id, 2)}


def test_nothing_held_is_nothing_renewed(farm: Farm) -> None:
    """An empty renewal answers with nothing."""
    assert farm.store.renew({}, LEASE_S) == set()


# --- succeed


def test_success_comes_with_its_images_in_one_transaction(farm: Farm) -> None:
    """State, images, costs and event appear together."""
    claim = farm.claimed(num_images=2)
    assert farm.store.succeed(claim.id, claim.attempt, images(claim, 2), COSTS)
    row = farm.job(claim.id)
    assert (row["status"], row["step"], row["lease_until"]) == ("succeeded", 10, None)
    assert (row["render_s"], row["store_s"], row["gpu_seconds"]) == (0.5, 0.1, 0.25)
    found = farm.rows("SELECT * FROM images WHERE job_id = :i ORDER BY n", i=claim.id)
    assert [(image["n"], image["seed"]) for image in found] == [(0, 7), (1, 8)]
    assert farm.events(claim.id) == ["queued", "running", "succeeded"]


def test_images_that_cannot_be_written_leave_the_job_running(farm: Farm) -> None:
    """If the images are refused, neither the state nor the event stays behind."""
    claim = farm.claimed()
    with pytest.raises(IntegrityError):
        farm.store.succeed(claim.id, 1, images(claim) * 2, COSTS)
    assert farm.state(claim.id) == ("running", 1)
    assert farm.events(claim.id) == ["queued", "running"]


def endings(claim: Claim) -> list[Callable[[Store], Any]]:
    """Everything that a holder may say of its attempt."""
    return [
        lambda store: store.succeed(claim.id, claim.attempt, images(claim), COSTS),
        lambda store: store.fail(claim.id, claim.attempt, BUG, MAX),
        lambda store: store.fail(claim.id, claim.attempt, HICCUP, MAX),
        lambda store: store.fail(claim.id, claim.attempt, HICCUP, 1),
        lambda store: store.release(claim.id, claim.attempt),
        lambda store: store.renew({(claim.id, claim.attempt): 1}, LEASE_S),
    ]


@pytest.mark.parametrize("then", ["queued", "claimed again", "cancelled", "succeeded", "expired"])
def test_a_stale_attempt_changes_nothing(farm: Farm, then: str) -> None:
    """Whatever became of the job since, its old holder cannot end, release or renew it."""
    claim = farm.claimed()
    if then in {"queued", "claimed again"}:
        farm.lose(claim.id)
        farm.store.rescue(MAX)
    match then:
        case "claimed again":
            farm.claimed(claim.id)
        case "cancelled":
            farm.store.cancel(claim.id, farm.tenant.id)
        case "succeeded":
            farm.finish(claim)
        case "expired":
            farm.outdate(claim.id)
            farm.store.expire()
    before = farm.job(claim.id), farm.events(claim.id)
    for ending in endings(claim):
        assert not ending(farm.store)
    assert (farm.job(claim.id), farm.events(claim.id)) == before


@pytest.mark.parametrize("ending", range(5))
def test_of_two_endings_at_once_one_counts(farm: Farm, ending: int) -> None:
    """A tenant who cancels and a holder who reports at the same moment: exactly one has its way."""
    for _ in range(4):
        claim = farm.claimed()
        report = endings(claim)[ending]

        def work(n: int, claim: Claim = claim, report: Any = report) -> Any:
            return farm.store.cancel(claim.id, farm.tenant.id) if n else report(farm.store)

        reported, cancelled = at_once(2, work)
        requeued = farm.events(claim.id)[2] in {"retried", "released"}
        assert bool(reported) + cancelled == (2 if requeued and cancelled else 1)
        assert farm.breaches() == []


# --- fail


def test_the_requests_own_fault_fails_at_once(farm: Farm) -> None:
    """What another attempt cannot mend is not tried again."""
    claim = farm.claimed()
    assert farm.store.fail(claim.id, 1, BUG, MAX) == "failed"
    row = farm.job(claim.id)
    assert (row["status"], row["failures"]) == ("failed", 1)
    assert row["error"] == {"code": "bad_image", "message": "not a picture"}
    assert farm.events(claim.id) == ["queued", "running", "failed"]


def test_a_hiccup_is_tried_again_later_and_later_until_the_budget_is_spent(farm: Farm) -> None:
    """Transient failures wait 1, then 2 seconds, and the third ends the job."""
    claim = farm.claimed()
    for failures, wait_s in ((1, 1), (2, 2)):
        assert farm.store.fail(claim.id, failures, HICCUP, MAX) == "retried"
        row = farm.rows(
            """SELECT *, run_after - at AS wait FROM jobs JOIN events ON job_id = jobs.id
               WHERE type = 'retried' AND job_id = :i ORDER BY events.id DESC LIMIT 1""",
            i=claim.id,
        )[0]
        assert (row["status"], row["failures"]) == ("queued", failures)
        assert abs(row["wait"].total_seconds() - wait_s) < 1 / 2
        assert farm.store.claim(claim.id, "w", LEASE_S) is None
        farm.execute("UPDATE jobs SET run_after = now() WHERE id = :i", i=claim.id)
        farm.claimed(claim.id)
    assert farm.store.fail(claim.id, 3, HICCUP, MAX) == "failed"
    assert farm.job(claim.id)["error"]["code"] == "storage_unavailable"
    assert farm.events(claim.id).count("retried") == 2


def test_an_error_that_was_overcome_is_forgotten(farm: Farm) -> None:
    """A job that succeeds after a retry carries no error."""
    claim = farm.claimed()
    farm.store.fail(claim.id, 1, HICCUP, MAX)
    farm.execute("UPDATE jobs SET run_after = now() WHERE id = :i", i=claim.id)
    farm.finish(farm.claimed(claim.id))
    assert farm.job(claim.id)["error"] is None


# --- release, rescue


def test_a_release_costs_the_job_nothing(farm: Farm) -> None:
    """However often workers drain, the job is as good as new: due, unhinted, no budget spent."""
    job_id = farm.queued()
    for attempt in range(1, 6):
        claim = farm.claimed(job_id)
        assert not claim.alone
        assert farm.store.release(job_id, attempt)
    row = farm.job(job_id)
    assert (row["releases"], row["failures"], row["crashes"]) == (5, 0, 0)
    assert (row["hinted_at"], row["step"]) == (None, 0)


def test_a_lost_job_comes_back_and_then_runs_alone(farm: Farm) -> None:
    """A lease that ran out costs a crash, and the next attempt shares the device with none."""
    lost, held = farm.claimed(), farm.claimed()
    farm.lose(lost.id)
    assert farm.store.rescue(MAX) == [lost.id]
    row = farm.job(lost.id)
    assert (row["status"], row["crashes"], row["hinted_at"]) == ("queued", 1, None)
    assert farm.state(held.id) == ("running", 1)
    assert farm.claimed(lost.id).alone
    assert farm.events(lost.id) == ["queued", "running", "rescued", "running"]


def test_a_spent_crash_budget_ends_the_job(farm: Farm) -> None:
    """A job that loses its worker three times has failed, as `worker_lost`."""
    job_id = farm.queued()
    for _ in range(MAX):
        farm.claimed(job_id)
        farm.lose(job_id)
        assert farm.store.rescue(MAX) == [job_id]
    row = farm.job(job_id)
    assert (row["status"], row["crashes"]) == ("failed", 3)
    assert row["error"]["code"] == "worker_lost"
    assert "3 times" in row["error"]["message"]
    assert farm.store.rescue(MAX) == []


def test_many_reapers_take_each_lost_job_once(farm: Farm) -> None:
    """Reapers at work at the same time share the lost jobs among them."""
    claims = [farm.claimed() for _ in range(30)]
    for claim in claims:
        farm.lose(claim.id)
    rescued = at_once(6, lambda _: farm.store.rescue(MAX, limit=10))
    rescued.append(farm.store.rescue(MAX))
    ids = [job_id for found in rescued for job_id in found]
    assert sorted(ids) == sorted(claim.id for claim in claims)


# --- expire, cancel


def test_deadlines_end_jobs_that_wait_and_jobs_that_run(farm: Farm) -> None:
    """Both end as expired; a job whose deadline lies ahead does not."""
    waits, runs, ahead = farm.queued(), farm.claimed().id, farm.queued()
    farm.outdate(waits)
    farm.outdate(runs)
    assert set(farm.store.expire()) == {waits, runs}
    assert [farm.job(i)["status"] for i in (waits, runs, ahead)] == ["expired", "expired", "queued"]
    assert farm.events(runs)[-1] == "expired"


def test_a_limit_bounds_each_round(farm: Farm) -> None:
    """No more than `limit` jobs are moved in one statement; the rest waits for the next."""
    for claim in [farm.claimed() for _ in range(5)]:
        farm.lose(claim.id)
    assert len(farm.store.rescue(MAX, limit=3)) == 3
    assert len(farm.store.rescue(MAX, limit=3)) == 2
    for row in farm.rows("SELECT id FROM jobs"):
        farm.outdate(row["id"])
    assert len(farm.store.expire(limit=4)) == 4
    assert len(farm.store.expire(limit=4)) == 1


def test_a_tenant_cancels_its_own_jobs_and_no_others(farm: Farm) -> None:
    """Waiting or running, one's own job ends; another's does not; a second time does nothing."""
    waits, runs = farm.queued(), farm.claimed().id
    for job_id in (waits, runs):
        assert not farm.store.cancel(job_id, farm.other.id)
        assert farm.store.cancel(job_id, farm.tenant.id)
        assert not farm.store.cancel(job_id, farm.tenant.id)
        assert farm.events(job_id)[-1] == "cancelled"
    assert not farm.store.cancel(new_id(), farm.tenant.id)


def test_of_many_cancels_one_counts(farm: Farm) -> None:
    """A tenant that cancels many times at once cancels once."""
    claim = farm.claimed()
    assert sum(at_once(10, lambda _: farm.store.cancel(claim.id, farm.tenant.id))) == 1


# --- hints


def test_a_hint_is_noted_for_queued_jobs_only(farm: Farm) -> None:
    """Only what still waits is hinted, and no state changes by it."""
    waits, runs = farm.queued(), farm.claimed().id
    hinted = farm.store.hint([waits, runs, new_id()])
    assert [(row["id"], row["attempt"]) for row in hinted] == [(waits, 0)]
    assert farm.job(waits)["hinted_at"] is not None
    assert farm.events(waits) == ["queued"]


# --- the outbox


HOOK = {"url": "https://a.test/hook", "events": []}


def test_a_webhook_hears_of_the_ending_by_default(farm: Farm) -> None:
    """Without a choice every final event is told, and nothing else is."""
    done = farm.claimed(webhook=HOOK)
    farm.finish(done)
    failed = farm.claimed(webhook=HOOK)
    farm.store.fail(failed.id, 1, BUG, MAX)
    cancelled = farm.queued(webhook=HOOK)
    farm.store.cancel(cancelled, farm.tenant.id)
    late = farm.queued(webhook=HOOK)
    farm.outdate(late)
    farm.store.expire()
    lost = farm.claimed(webhook=HOOK).id
    farm.lose(lost)
    farm.store.rescue(1)
    told = [farm.deliveries(i) for i in (done.id, failed.id, cancelled, late, lost)]
    assert told == [
        ["job.succeeded"], ["job.failed"], ["job.cancelled"], ["job.expired"], ["job.failed"],
    ]  # fmt: skip


def test_a_webhook_hears_of_what_it_asked_for_and_no_more(farm: Farm) -> None:
    """The chosen events are told, each attempt's start among them; others are not."""
    chosen = ["job.queued", "job.started", "job.failed"]
    claim = farm.claimed(webhook=HOOK | {"events": chosen})
    farm.store.release(claim.id, 1)
    farm.finish(farm.claimed(claim.id))
    assert farm.deliveries(claim.id) == ["job.queued", "job.started", "job.started"]
    silent = farm.claimed()
    farm.finish(silent)
    assert farm.deliveries(silent.id) == []


def test_a_delivery_carries_the_job_as_it_is_then(farm: Farm) -> None:
    """The payload is the public job with its images' keys; who signs it is seen when it is sent."""
    claim = farm.claimed(webhook=HOOK, metadata={"order": 7})
    farm.finish(claim)
    (row,) = farm.rows("SELECT * FROM outbox")
    payload = row["payload"]
    assert (row["url"], row["state"], row["tries"]) == (HOOK["url"], "pending", 0)
    assert (row["secret"], row["endpoint_id"]) == (None, None)
    assert (payload["type"], payload["data"]["status"]) == ("job.succeeded", "succeeded")
    assert payload["data"]["id"] == str(claim.id)
    assert payload["data"]["metadata"] == {"order": 7}
    assert payload["data"]["images"][0]["key"].endswith(f"{claim.id}/1/0.png")
    assert payload["timestamp"] == payload["data"]["finished_at"]


@pytest.mark.parametrize("ending", ["succeed", "fail", "cancel", "expire", "rescue"])
def test_no_ending_without_its_delivery(farm: Farm, ending: str) -> None:
    """If the outbox cannot be written, the job has not ended either."""
    claim = farm.claimed(webhook=HOOK)
    if ending == "expire":
        farm.outdate(claim.id)
    if ending == "rescue":
        farm.lose(claim.id)
    end: dict[str, Callable[[], Any]] = {
        "succeed": lambda: farm.finish(claim),
        "fail": lambda: farm.store.fail(claim.id, 1, BUG, MAX),
        "cancel": lambda: farm.store.cancel(claim.id, farm.tenant.id),
        "expire": farm.store.expire,
        "rescue": lambda: farm.store.rescue(1),
    }
    farm.execute("ALTER TABLE outbox ADD CONSTRAINT shut CHECK (false) NOT VALID")
    try:
        with pytest.raises(IntegrityError, match="shut"):
            end[ending]()
    finally:
        farm.execute("ALTER TABLE outbox DROP CONSTRAINT shut")
    assert farm.state(claim.id) == ("running", 1)
    assert farm.events(claim.id) == ["queued", "running"]


# --- the table of moves


def test_the_moves_that_are_written_are_the_tables(farm: Farm) -> None:
    """Every move of `states.MOVES` is made by its actor's statement, and no other is ever made."""
    made: set[tuple[str | None, str, Actor, str]] = set()

    def step(actor: Actor, work: Callable[[], Any]) -> None:
        before = {row["id"]: row["status"] for row in farm.rows("SELECT id, status FROM jobs")}
        (newest,) = farm.rows("SELECT coalesce(max(id), 0) AS id FROM events")
        work()
        for row in farm.rows(
            """SELECT jobs.id, status, type FROM events JOIN jobs ON jobs.id = job_id
               WHERE events.id > :newest""",
            newest=newest["id"],
        ):
            made.add((before.get(row["id"]), row["status"], actor, row["type"]))

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
    made.add(("queued", "succeeded", Actor.ACCEPT, "succeeded"))
    assert made == {(m.before, m.after, m.actor, m.event) for m in MOVES}


def images_of(farm: Farm, job_id: UUID) -> Any:
    """The images of a job's first attempt."""
    row = farm.job(job_id)
    return images(Claim(job_id, row["tenant_id"], 1, row["request"], alone=False))


def test_each_move_is_one_statement(farm: Farm) -> None:
    """A claim, a renewal, a cancel are one statement each, and a notice after it.

    Where a webhook may tell of the move, one look at the tenant's endpoints is in between.
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
    looks = [statement for statement in statements if "FROM endpoints" in statement]
    rest = [statement for statement in statements if statement not in looks]
    moves = [statement for statement in rest if "pg_notify" not in statement]
    assert (len(looks), len(moves)) == (2, 4)
    assert rest[1::2] == [s for s in rest if "pg_notify" in s]
