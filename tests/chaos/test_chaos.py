"""The short forms of the chaos runs. At full length: `make chaos`.

They are held to everything that the full runs are, but for seconds: how busy the machine is decides
those, so they are judged where they are measured.
"""

from __future__ import annotations

import pytest

from tests.chaos.runs import SHORT


@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", SHORT)
def test_what_the_farm_promises_holds_under(run: str) -> None:
    """No job lost, none ended twice, one whole image set each, and an audit without a problem."""
    verdict = SHORT[run]()
    assert verdict.faults or run == "R17", "no fault fired"
    assert [each for each in verdict.broken if "seconds" not in each] == []
