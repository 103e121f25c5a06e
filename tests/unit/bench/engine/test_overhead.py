"""bench.engine.overhead: the engine serves the pipeline that measures its overhead."""

from __future__ import annotations

from bench.engine.overhead import python_s


def test_the_engine_serves_a_pipeline_with_only_a_loop() -> None:
    """Every step runs and takes processor time."""
    assert 0 < python_s(2) < 1
