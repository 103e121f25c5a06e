"""What the engine itself costs is measured with a pipeline that the engine still takes."""

from __future__ import annotations

from bench.engine.overhead import python_s


def test_a_pipeline_of_nothing_but_its_loop_goes_through_the_engine() -> None:
    """All its steps are run, and each has cost something."""
    assert 0 < python_s(2) < 1
