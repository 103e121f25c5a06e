"""What intake does with messages, on every service: real adapters, a real Postgres."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from renderfarm.queues import Outgoing, Unavailable
from tests.contract.queues.harness import eventually
from tests.integration.intake import bad
from tests.integration.intake.rig import IntakeRig, ids, requests

if TYPE_CHECKING:
    from tests.contract.queues.harness import Harness

LEASE_S = 60.0
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def make(harness: Harness) -> str:
    """A queue nobody has used, on the harness's service."""
    return harness.make(lease_s=LEASE_S, max_deliveries=5, ordered=False)


def test_messages_become_jobs(desk: IntakeRig, harness: Harness) -> None:
    """Each request becomes the job with its producer's id and trace; the queue is empty."""
    url = make(harness)
    queue = desk.queue(url)
    sent = queue.send_many(requests(30), attributes={"traceparent": TRACE})
    with desk.reading(url):
        jobs = desk.jobs(30)
    assert ids(jobs) == set(sent)
    assert {job["trace"] for job in jobs} == {TRACE}
    assert {job["status"] for job in jobs} == {"queued"}
    assert harness.dead(url) == []
    assert desk.farm.breaches() == []


def test_fifty_bad_messages_end_in_the_dead_letter(desk: IntakeRig, harness: Harness) -> None:
    """Each is recorded and moved with its reason, once; the good ones between become jobs."""
    url = make(harness)
    queue = desk.queue(url)
    good = queue.send_many(requests(10))
    sent = bad.send(queue, 50)
    good += queue.send_many(requests(10))
    with desk.reading(url):
        dead = eventually(lambda: harness.dead(url), lambda found: len(found) >= 50)
        jobs = desk.jobs(20)
        rejects = desk.rejects(50)
    assert Counter(each.body for each in dead) == dict.fromkeys(sent, 1)
    assert all(each.reason and each.reason.startswith(sent[each.body]) for each in dead)
    assert Counter(row["code"] for row in rejects) == Counter(sent.values())
    assert ids(jobs) == set(good)
    assert len(rejects) == 50


def test_a_second_delivery_is_the_same_job(desk: IntakeRig, harness: Harness) -> None:
    """The same id with the same body is acknowledged and makes nothing.

    With another it is refused.
    """
    url = make(harness)
    queue = desk.queue(url)
    job_id = str(uuid4())
    first = {"id": job_id, "prompt": "a red circle"}
    again = json.dumps(dict(reversed(first.items()))).encode()
    other = json.dumps({"id": job_id, "prompt": "two red circles"}).encode()
    with desk.reading(url):
        queue.send(first)
        desk.jobs(1)
        queue.put([Outgoing(again), Outgoing(other), Outgoing(b'{"prompt": "last"}')])
        jobs = desk.jobs(2)
        (reject,) = desk.rejects(1)
        (dead,) = eventually(lambda: harness.dead(url), bool)
    assert sorted(job["request"]["prompt"] for job in jobs) == ["a red circle", "last"]
    assert reject["code"] == "idempotency_conflict"
    assert bytes(reject["body"]) == dead.body == other


def test_it_reads_on_when_the_service_is_back(desk: IntakeRig, harness: Harness) -> None:
    """A server that is killed and started again is read from again, and nothing is lost."""
    if "outage" not in harness.abilities:
        pytest.skip("the service has no server to kill")
    url = make(harness)
    queue = desk.queue(url)
    with desk.reading(url):
        before = queue.send_many(requests(3))
        desk.jobs(3)
        harness.kill()
        harness.restart()
        after = eventually(lambda: _try_to_send(desk, url), bool)
        jobs = desk.jobs(6)
    assert set(before) | set(after) <= ids(jobs)


def _try_to_send(desk: IntakeRig, url: str) -> list[str]:
    try:
        return desk.queue(url).send_many(requests(3))
    except Unavailable:
        return []
