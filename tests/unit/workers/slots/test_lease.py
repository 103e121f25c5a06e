"""Which leases the renewer renews, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from app.config.settings import Settings
from app.jobs.records import Claim
from workers.slots.lease import LeaseRenewer

if TYPE_CHECKING:
    from collections.abc import Mapping

ONE, TWO = UUID(int=1), UUID(int=2)
LEASE_S, RENEW_S, WATCHDOG_S = 30.0, 5.0, 120.0
SETTINGS = Settings.from_environment(
    {
        "RENDERFARM_DATABASE_URL": "postgresql://nowhere/farm",
        "RENDERFARM_BROKER_URL": "redis://nowhere/0",
        "RENDERFARM_LEASE_S": str(LEASE_S),
        "RENDERFARM_RENEW_S": str(RENEW_S),
        "RENDERFARM_WATCHDOG_S": str(WATCHDOG_S),
    }
)


class FakeStore:
    """Records the renewals; the attempts in `lost` are no longer held."""

    def __init__(self) -> None:
        self.renewals: list[dict[tuple[UUID, int], int]] = []
        self.lost: set[tuple[UUID, int]] = set()

    def renew(self, held: Mapping[tuple[UUID, int], int], lease_s: float) -> set[Any]:
        """Record the renewal."""
        assert lease_s == LEASE_S
        self.renewals.append(dict(held))
        return set(held) - self.lost


class FakeRuntime:
    """Answers the steps that a test sets, and records the cancelled attempts."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self.stuck = 0.0
        self.lost: str | None = None
        self.cancelled: list[str] = []

    def progress_of(self, job_id: str) -> int:
        """Return the steps of the attempt."""
        return self.steps.get(job_id, 0)

    def stuck_s(self) -> float:
        """Return the seconds without a step."""
        return self.stuck

    def cancel(self, job_id: str) -> None:
        """Record the cancellation."""
        self.cancelled.append(job_id)


def renewer() -> tuple[LeaseRenewer, FakeStore, FakeRuntime]:
    """Build a renewer that has just renewed."""
    store, runtime = FakeStore(), FakeRuntime()
    return LeaseRenewer(cast("Any", store), cast("Any", runtime), SETTINGS), store, runtime


def claim(job_id: UUID, attempt: int = 1) -> Claim:
    """Build a claim of this worker."""
    return Claim(job_id, UUID(int=9), attempt, {}, exclusive=False)


def test_nothing_is_renewed_while_no_job_is_held_or_due() -> None:
    """The renewer sends no statement unless a held job made a step or its renewal is due."""
    leases, store, _ = renewer()
    leases._renewed_at -= RENEW_S
    leases.round()
    assert store.renewals == []
    leases._renewed_at += RENEW_S
    with leases.hold(claim(ONE)):
        leases.round()
    assert store.renewals == []


def test_all_held_jobs_are_renewed_in_one_statement() -> None:
    """Every `renew_s` one statement names each held attempt once, with its step."""
    leases, store, runtime = renewer()
    runtime.steps = {f"{TWO}.3": 7}
    with leases.hold(claim(ONE)), leases.hold(claim(TWO, 3)):
        leases._renewed_at -= RENEW_S
        leases.round()
        leases.round()
    assert store.renewals == [{(ONE, 1): 0, (TWO, 3): 7}]
    assert leases.count == 0


def test_a_step_is_reported_at_once() -> None:
    """Progress does not wait for the next renewal, and is reported once."""
    leases, store, runtime = renewer()
    with leases.hold(claim(ONE)):
        runtime.steps[f"{ONE}.1"] = 2
        leases.round()
        leases.round()
        assert store.renewals == [{(ONE, 1): 2}]


def test_the_leases_of_a_stuck_device_run_out() -> None:
    """After the watchdog's limit without a step nothing is renewed, so the jobs are rescued."""
    leases, store, runtime = renewer()
    with leases.hold(claim(ONE)):
        leases._renewed_at -= RENEW_S
        runtime.stuck = WATCHDOG_S + 1
        leases.round()
        assert store.renewals == []
        runtime.stuck = 0.0
        leases.round()
        assert len(store.renewals) == 1


def test_a_lost_attempt_leaves_the_engine() -> None:
    """A lost attempt is cancelled by its name; a newer attempt of the same job stays."""
    leases, store, runtime = renewer()
    store.lost = {(ONE, 1)}
    with leases.hold(claim(ONE, 1)), leases.hold(claim(ONE, 2)), leases.hold(claim(TWO)):
        leases._renewed_at -= RENEW_S
        leases.round()
    assert runtime.cancelled == [f"{ONE}.1"]


def test_ending_one_attempt_keeps_the_other() -> None:
    """Two attempts of one job in one worker have separate leases."""
    leases, _, _ = renewer()
    with leases.hold(claim(ONE, 2)):
        with leases.hold(claim(ONE, 1)):
            assert leases.count == 2
        assert leases.count == 1
