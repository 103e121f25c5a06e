"""Intake is killed at eight points around receive, commit and ack, and no message is lost.

Each run sends to a queue of its own, has an intake killed at the point, and lets another finish.
`make test` does the short form, `make kill-intakes` the long one (`killed_intakes_long`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import uuid4

from renderfarm.queues import Outgoing, open_queue
from tests.contract.queues.harness import eventually
from tests.integration.intake import bad, doomed
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from renderfarm.queues import Queue
    from tests.contract.queues.harness import Harness
    from tests.integration.intake.rig import IntakeRig

SERVICES = ("redis", "sqs", "pubsub", "servicebus")
"""A memory queue dies with its process, so there is nothing to find of it."""
GOOD, TWICE, NAMELESS, BAD = 20, 5, 5, 7
JOBS = GOOD + NAMELESS
DELIVERIES = 5
LEAST_LEASE_S = 1.0
"""Shorter ones may be lost on a busy machine, and a message lost five times is given up."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        doomed.__name__,
        "renderfarm.queues.redis_stream",
        "queues.sqs",
        "queues.pubsub",
        "queues.servicebus",
    ]
)


@dataclass(frozen=True, slots=True)
class Found:
    """What one run sent, by distinct keys and bodies, and what was there in the end."""

    keys: int
    jobs: int
    bad: int
    dead: int


def once(
    desk: IntakeRig,
    harness: Harness,
    points: Sequence[str],
    seed: str,
    least_s: float = LEAST_LEASE_S,
) -> Found:
    """One run: an intake is killed at each point in turn, and then one is left alone.

    Whatever was sent is in the records exactly once then, as a job or as a refusal. A message may
    be in hand at each kill, so there must be fewer of them than deliveries.
    """
    chance = random.Random(seed)  # noqa: S311 - an order of messages is no secret
    desk.farm.execute("DELETE FROM rejects; DELETE FROM jobs")
    lease_s = max(least_s, harness.short_lease_s)
    url = harness.make(lease_s=lease_s, max_deliveries=DELIVERIES, ordered=False)
    with open_queue(url) as queue:
        sent, refusable = _send(queue, chance)
    for point in points:
        _killed(desk, url, point, chance.randint(1, 3) if len(points) == 1 else 1)
    with desk.reading(url):
        desk.jobs(JOBS)
        desk.rejects(len(refusable))
        dead = eventually(
            lambda: harness.dead(url), lambda found: {each.body for each in found} >= set(refusable)
        )
        _drain(url)
    jobs, rejects = desk.jobs(0), desk.rejects(0)
    assert {str(job["id"]) for job in jobs} >= sent
    assert len(jobs) == JOBS, f"{len(jobs)} jobs"
    hashes = Counter(bytes(row["body_sha256"]) for row in rejects)
    assert hashes == {sha256(body).digest(): 1 for body in refusable}, rejects
    assert {each.body for each in dead} == set(refusable), "others are in the dead-letter"
    assert all(each.reason and each.reason.startswith(refusable[each.body]) for each in dead)
    assert desk.farm.breaches() == []
    return Found(keys=JOBS, jobs=len(jobs), bad=len(refusable), dead=len(dead))


def _send(queue: Queue, chance: random.Random) -> tuple[set[str], dict[bytes, str]]:
    """Good messages, some of them twice, some without an id, and bad ones, in any order."""
    named = {str(uuid4()): n for n in range(GOOD)}
    bodies = [
        json.dumps({"id": job_id, "prompt": f"{n} stars"}).encode() for job_id, n in named.items()
    ]
    bodies += bodies[:TWICE]
    bodies += [json.dumps({"prompt": f"nameless {n}"}).encode() for n in range(NAMELESS)]
    chance.shuffle(bodies)
    queue.put([Outgoing(body) for body in bodies[: len(bodies) // 2]])
    refusable = bad.send(queue, BAD)
    queue.put([Outgoing(body) for body in bodies[len(bodies) // 2 :]])
    return set(named), refusable


def _killed(desk: IntakeRig, url: str, point: str, turn: int) -> None:
    """Let an intake read the queue until it is killed, which must be at the point."""
    environment = {**os.environ, **desk.environment(url)}
    process = processes.Process(target=doomed.run, args=(environment, point, turn), daemon=True)
    process.start()
    process.join(PATIENCE_S)
    process.kill()
    assert process.exitcode == -signal.SIGKILL, f"it ended otherwise: {process.exitcode}"


def _drain(url: str) -> None:
    """Wait until nothing is left of the queue, as another consumer would see it."""
    with open_queue(url) as queue:
        while left := queue.receive(10, queue.lease_s * 1.5):
            queue.retry(left)
