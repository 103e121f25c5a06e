"""OpenMP settings: how torch's threads wait for each other on a CPU (spin, then sleep).

A denoiser step has some hundred parallel sections of a few dozen microseconds. Threads that spin
between them (OpenMP's default) use a core that the farm's other processes need. Threads that sleep
are woken some hundred times, and a picture takes a third longer. Threads that spin for some tens of
microseconds and then sleep are as fast as the former and use as little CPU as the latter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

SPINS = "1000"
"""Iterations that a thread spins before it sleeps, some tens of microseconds.

For libgomp, the OpenMP runtime that torch is built with."""


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Make torch's threads spin briefly, then sleep. Call this before torch is imported.

    Values of `OMP_WAIT_POLICY` and `GOMP_SPINCOUNT` that the user has set stay. Other OpenMP
    runtimes know only the former, and sleep at once.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
