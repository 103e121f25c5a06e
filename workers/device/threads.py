"""How torch's threads wait for one another on a CPU.

A denoiser's step is some hundred parallel sections, a few dozen microseconds each. Threads that spin between
them (OpenMP's default) burn a core that the farm's other processes could use; threads that sleep are woken
some hundred times, and a picture takes a third longer. Spinning for some tens of microseconds and then sleeping
takes as long as the one and costs as much as the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

SPINS = "1000"
"""Rounds that a thread spins before it sleeps, some tens of microseconds (libgomp, which torch is built with)."""


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Have torch's threads spin briefly, then sleep; to be called before torch is loaded, which reads it.

    What the user has set stays: `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT`. Other OpenMP runtimes know the first
    alone, and sleep at once.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
