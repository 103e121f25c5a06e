"""Stats: what an engine has done so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stats:
    """Forwards and rows by role (`encoder`, `denoiser`, `decoder`); hits of the encoder cache."""

    forwards: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    cache_hits: Counter[str] = field(default_factory=Counter)

    @property
    def mean_rows(self) -> float:
        """Rows per denoiser forward; 0 before the first."""
        return self.rows["denoiser"] / max(1, self.forwards["denoiser"])
