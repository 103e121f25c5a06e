"""Import directions, and what an import loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter import configuration
from importlinter.application.use_cases import lint_imports

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "diffusers", "transformers", "numpy", "PIL", "sqlalchemy", "celery", "fastapi"}
LOADED = (
    "import json, sys, {}; print(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
)


def test_every_contract_of_pyproject_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """import-linter finds no import against the direction of the layers."""
    monkeypatch.chdir(ROOT)
    configuration.configure()
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None)


def loaded_by(module: str) -> set[str]:
    """The top-level packages that a new interpreter has loaded after importing the module."""
    run = subprocess.run(
        [sys.executable, "-c", LOADED.format(module)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(run.stdout))


@pytest.mark.parametrize("module", ["renderfarm", "renderfarm.queues", "renderfarm.testing"])
def test_what_customers_install_loads_nothing_of_the_farms(module: str) -> None:
    """The SDK and the queue adapters load neither `app` nor torch nor a server's library."""
    assert not loaded_by(module) & (HEAVY | {"app", "workers", "boto3", "redis"})


def test_the_control_plane_never_loads_torch() -> None:
    """A role that needs no device starts without torch."""
    roles = "app.api.application, app.dispatch.dispatcher, app.webhooks.courier, app.intake.role"
    assert not loaded_by(roles) & {"torch", "diffusers", "transformers", "workers"}


def test_a_null_worker_never_loads_torch() -> None:
    """A worker loads torch only with its first real model."""
    assert not loaded_by("workers.__main__") & {"torch", "diffusers", "transformers"}
