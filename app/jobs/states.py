"""The state machine of a job: its states, the legal moves, and who may make each move. Pure.

    queued     gets in by submission, or from running: retried, released (holder), rescued (reaper)
               leaves by a claim (worker), the result cache (accept), cancel (tenant), its deadline
               (reaper)
    running    gets in by a claim (worker), for one attempt with a lease
               leaves by success, failure, retry, release (holder), cancel (tenant), the end of its
               lease or its deadline (reaper)
    succeeded  all images are stored; final
    failed     an error that no retry corrects, or the budget of retries or crashes is spent; final
    cancelled  its tenant cancelled it; final
    expired    its deadline passed; final

A job begins `queued` and ends in exactly one final state. A job that waits for a retry is `queued`
with `run_after` in the future. Every move writes one event, whose type is in `MOVES`. `store` makes
the moves; the database refuses illegal ones with triggers and CHECKs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from renderfarm.types import Status


class Actor(StrEnum):
    """Who makes a move."""

    ACCEPT = "accept"
    """The submission itself, in its own transaction."""
    HOLDER = "holder"
    """The worker that holds the job's present attempt."""
    REAPER = "reaper"
    """The background task that looks for leases and deadlines that have passed."""
    TENANT = "tenant"
    """Any client with an API key of the job's tenant."""
    WORKER = "worker"
    """Any worker that has a hint for the job."""


@dataclass(frozen=True, slots=True)
class Move:
    """One legal move: `event` is the type of the event that it writes."""

    before: Status | None
    after: Status
    actor: Actor
    event: str


MOVES: tuple[Move, ...] = (
    Move(None, Status.QUEUED, Actor.ACCEPT, "queued"),
    Move(Status.QUEUED, Status.SUCCEEDED, Actor.ACCEPT, "succeeded"),
    Move(Status.QUEUED, Status.RUNNING, Actor.WORKER, "running"),
    Move(Status.RUNNING, Status.SUCCEEDED, Actor.HOLDER, "succeeded"),
    Move(Status.RUNNING, Status.FAILED, Actor.HOLDER, "failed"),
    Move(Status.RUNNING, Status.QUEUED, Actor.HOLDER, "retried"),
    Move(Status.RUNNING, Status.QUEUED, Actor.HOLDER, "released"),
    Move(Status.RUNNING, Status.QUEUED, Actor.REAPER, "rescued"),
    Move(Status.RUNNING, Status.FAILED, Actor.REAPER, "failed"),
    Move(Status.QUEUED, Status.CANCELLED, Actor.TENANT, "cancelled"),
    Move(Status.RUNNING, Status.CANCELLED, Actor.TENANT, "cancelled"),
    Move(Status.QUEUED, Status.EXPIRED, Actor.REAPER, "expired"),
    Move(Status.RUNNING, Status.EXPIRED, Actor.REAPER, "expired"),
)


def legal(before: Status | None, after: Status, actor: Actor) -> bool:
    """Whether `actor` may move a job from `before` to `after`; `before` is None for a new job."""
    return any((m.before, m.after, m.actor) == (before, after, actor) for m in MOVES)


def retry_delay_s(failures: int) -> float:
    """Exponential backoff: the wait after the n-th transient failure, 1, 2, 4 ... up to 60 s."""
    return float(min(2 ** max(0, failures - 1), 60))
