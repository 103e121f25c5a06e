"""Each service once per run, as in the conformance suite, and intake to read from it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from tests.contract.queues.conftest import HARNESSES
from tests.integration.intake.rig import MODELS, IntakeRig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.queues.harness import Harness
    from tests.integration.records import FarmDatabase


@pytest.fixture(params=HARNESSES, scope="session")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """One service, started when the first test needs it."""
    module, name = HARNESSES[request.param]
    built: Harness = getattr(import_module(f"tests.contract.queues.{module}"), name)()
    yield built
    built.stop()


@pytest.fixture
def desk(farm: FarmDatabase, database_url: str, tmp_path: Path) -> Iterator[IntakeRig]:
    """Queues and intake for one test, on an empty farm."""
    (tmp_path / "models.toml").write_text(MODELS)
    made = IntakeRig(farm, database_url, tmp_path)
    yield made
    made.close()
