"""The legal moves of a job, and who may make each. Pure: the rules that `store` and Postgres hold.

A job begins `queued` and ends in exactly one final state. Waiting for a retry is `queued` with
`run_after` in the future. Every move writes one event whose type is named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from renderfarm.types import Status


class Actor(StrEnum):
    """Who asks for a move."""

    ACCEPT = "accept"
    HOLDER = "holder"
    REAPER = "reaper"
    TENANT = "tenant"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Move:
    """One line of the table: `event` names the move in the log of the job."""

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
    """Whether `actor` may take a job from `before` to `after`."""
    return any((m.before, m.after, m.actor) == (before, after, actor) for m in MOVES)


def retry_delay_s(failures: int) -> float:
    """How long a job waits after its n-th transient failure: 1, 2, 4 ... seconds, a minute at most."""
    return float(min(2 ** max(0, failures - 1), 60))
