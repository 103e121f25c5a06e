"""OpenMP settings, which must be set before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workers.device.threads import SPINS, wait_briefly


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}),
        ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
    ids=["nothing set", "spins set", "policy set"],
)
def test_values_of_the_user_stay(given: dict[str, str], then: dict[str, str]) -> None:
    """A variable that is already set is not changed."""
    environment = dict(given)
    wait_briefly(environment)
    assert environment == then


def test_the_worker_sets_them_before_torch_is_imported() -> None:
    """A worker without settings exits at once, with the variable set and torch not imported."""
    code = """
import os, sys
import workers.__main__ as worker
try:
    worker.main()
except SystemExit:
    print(os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules)
"""
    bare = {"PATH": os.environ["PATH"]}
    ran = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, check=True)
    assert ran.stdout.decode().split()[-2:] == [SPINS, "False"]
