"""The report of the chaos runs, as JSON and as Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.chaos.report import Fired, Verdict, write

if TYPE_CHECKING:
    from pathlib import Path


def test_each_claim_and_fault_has_a_line_and_nothing_is_lost(tmp_path: Path) -> None:
    """Each claim and fault has its own line of JSON, also if its text looks like JSON."""
    verdict = Verdict("R13", "a flood")
    verdict.equal("other answers", {"500": 2}, {})
    verdict.most("seconds", 1.5, 2)
    verdict.faults = [Fired(0.5, "kill", "api", 'said "{}"\nand ended')]
    write(tmp_path, verdict, {"commit": "abc", "cores": 2, "load_average": [0.1]})
    text = (tmp_path / "chaos.json").read_text()
    found = json.loads(text)["R13"]
    assert [claim["figure"] for claim in found["claims"]] == [{"500": 2}, 1.5]
    assert found["faults"][0]["proof"] == 'said "{}"\nand ended'
    assert '{"name": "seconds", "figure": 1.5, "bound": "<= 2", "held": true}' in text
    assert "**Not passed**" in (tmp_path / "chaos.md").read_text()
