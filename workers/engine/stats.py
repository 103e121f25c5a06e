"""Stats: counters of an engine's work."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stats:
    """Forwards, rows and encoder cache hits so far, each by role (`denoiser`, ...)."""

    forwards: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    cache_hits: Counter[str] = field(default_factory=Counter)

    @property
    def mean_rows(self) -> float:
        """Rows per denoiser forward; 0 before the first one."""
        return self.rows["denoiser"] / max(1, self.forwards["denoiser"])
