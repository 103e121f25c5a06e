"""What can go wrong with a benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """The run has no honest figures: a job failed, or did not end in time."""
