"""How torch's threads wait is settled before torch is there to read it."""

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
def test_what_the_user_has_set_stays(given: dict[str, str], then: dict[str, str]) -> None:
    """Each of the two variables is left alone where it is set."""
    environment = dict(given)
    wait_briefly(environment)
    assert environment == then


def test_the_worker_settles_it_before_torch_is_loaded() -> None:
    """A worker without settings ends at once; by then it is settled, and torch is not loaded yet."""
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
