"""Which leases are renewed, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
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


class Records:
    """Notes the renewals that are asked for; `lost` are no longer held."""

    def __init__(self) -> None:
        self.renewals: list[dict[tuple[UUID, int], int]] = []
        self.lost: set[tuple[UUID, int]] = set()

    def renew(self, held: Mapping[tuple[UUID, int], int], lease_s: float) -> set[Any]:
        """Note it."""
        assert lease_s == LEASE_S
        self.renewals.append(dict(held))
        return set(held) - self.lost


class Device:
    """Steps as a test sets them, and who was asked to leave."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self.stuck = 0.0
        self.lost: str | None = None
        self.left: list[str] = []

    def progress_of(self, job_id: str) -> int:
        """Steps of the attempt."""
        return self.steps.get(job_id, 0)

    def stuck_s(self) -> float:
        """How long it has not moved."""
        return self.stuck

    def cancel(self, job_id: str) -> None:
        """Note who leaves."""
        self.left.append(job_id)


def renewer() -> tuple[LeaseRenewer, Records, Device]:
    """A renewer that has just renewed."""
    records, device = Records(), Device()
    made: Any = (records, device)
    return LeaseRenewer(*made, SETTINGS), records, device


def claim(job_id: UUID, attempt: int = 1) -> Claim:
    """A worker's hold on a job."""
    return Claim(job_id, UUID(int=9), attempt, {}, exclusive=False)


def test_nothing_is_asked_while_nothing_is_held_or_due() -> None:
    """No statement without a reason: a held job, and time passed or steps made."""
    leases, records, _ = renewer()
    leases._renewed_at -= RENEW_S
    leases.round()
    assert records.renewals == []
    leases._renewed_at += RENEW_S
    with leases.hold(claim(ONE)):
        leases.round()
    assert records.renewals == []


def test_all_held_jobs_are_renewed_in_one_statement_when_it_is_time() -> None:
    """Every `renew_s` each held attempt is named once, with its step."""
    leases, records, device = renewer()
    device.steps = {f"{TWO}.3": 7}
    with leases.hold(claim(ONE)), leases.hold(claim(TWO, 3)):
        leases._renewed_at -= RENEW_S
        leases.round()
        leases.round()
    assert records.renewals == [{(ONE, 1): 0, (TWO, 3): 7}]
    assert leases.count == 0


def test_a_step_is_told_at_once() -> None:
    """Progress does not wait for the renewal's time, and is told once."""
    leases, records, device = renewer()
    with leases.hold(claim(ONE)):
        device.steps[f"{ONE}.1"] = 2
        leases.round()
        leases.round()
        assert records.renewals == [{(ONE, 1): 2}]


def test_a_stuck_device_lets_its_leases_run_out() -> None:
    """While no step ends for the watchdog's time nothing is renewed, so the jobs are rescued."""
    leases, records, device = renewer()
    with leases.hold(claim(ONE)):
        leases._renewed_at -= RENEW_S
        device.stuck = WATCHDOG_S + 1
        leases.round()
        assert records.renewals == []
        device.stuck = 0.0
        leases.round()
        assert len(records.renewals) == 1


def test_what_is_no_longer_ours_leaves_the_engine() -> None:
    """A lost attempt is taken out, by its own name; a newer attempt of the same job stays."""
    leases, records, device = renewer()
    records.lost = {(ONE, 1)}
    with leases.hold(claim(ONE, 1)), leases.hold(claim(ONE, 2)), leases.hold(claim(TWO)):
        leases._renewed_at -= RENEW_S
        leases.round()
    assert device.left == [f"{ONE}.1"]


def test_letting_go_of_one_attempt_keeps_the_other() -> None:
    """Two attempts of one job in one worker are two holds."""
    leases, _, _ = renewer()
    with leases.hold(claim(ONE, 2)):
        with leases.hold(claim(ONE, 1)):
            assert leases.count == 2
        assert leases.count == 1
