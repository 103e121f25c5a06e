"""Rounds of the intake bench are told as one."""

from __future__ import annotations

import pytest

from bench.intake import _figures, _together


def test_equal_rounds_are_told_as_one() -> None:
    """Times and processor seconds of two rounds of 50 are those of one of 100."""
    rounds = [_figures(50, 1.0, 0.2), _figures(50, 3.0, 0.4)]
    assert _together(100, rounds) == pytest.approx(_figures(100, 4.0, 0.6))
