"""The short forms of the chaos runs. `make chaos` does the full runs.

They make the claims of the full runs, without those in seconds, which depend on how busy the
machine is.
"""

from __future__ import annotations

import pytest

from tests.chaos.runs import SHORT


@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", SHORT)
def test_the_farm_keeps_its_promise_under(run: str) -> None:
    """No job is lost or ends twice, each has one whole image set, and the audit finds nothing."""
    verdict = SHORT[run]()
    assert verdict.faults or run == "R17", "no fault fired"
    assert [each for each in verdict.broken if "seconds" not in each] == []
