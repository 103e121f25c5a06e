"""R6 in short: every service and point once. The long form is `killed_intakes.py` as a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.intake import doomed, killed_intakes

if TYPE_CHECKING:
    from tests.contract.queues.harness import Harness
    from tests.integration.intake.rig import IntakeRig


ROUNDS = (
    ("before reject", "after receive", "before commit", "amid ack"),
    ("after reject", "before receive", "after commit", "after ack"),
)
"""Those first that need a bad message, while there are some."""


@pytest.mark.parametrize("points", ROUNDS, ids=lambda points: points[0])
def test_killed_intakes_lose_nothing(
    desk: IntakeRig, harness: Harness, points: tuple[str, ...]
) -> None:
    """After kill -9 at four points, another intake accepts the rest."""
    if "outage" not in harness.abilities:
        pytest.skip("a memory queue dies with its process")
    killed_intakes.once(desk, harness, points, points[0])


def test_every_point_has_its_turn() -> None:
    """The short form leaves no point out, and kills fewer times than a message is delivered."""
    assert sorted(point for points in ROUNDS for point in points) == sorted(doomed.POINTS)
    assert max(map(len, ROUNDS)) < killed_intakes.DELIVERIES
