"""Errors of a benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """The run has no valid figures: a job failed, or did not end in time."""
