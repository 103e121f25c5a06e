"""W3C trace context through the other door, HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from app.api.application import create_app
from app.config.settings import Settings
from app.tenants import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.intake.rig import IntakeRig

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def client(desk: IntakeRig) -> Iterator[TestClient]:
    """A client of the API of the desk's farm."""
    key = keys.new_key()
    keys.add_key(desk.farm.engine, desk.farm.tenant, key, "test")
    environment = desk.environment() | {"RENDERFARM_SECRET": "sixteen letters!"}
    app = create_app(Settings.from_environment(environment))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as made:
        yield made


@pytest.mark.parametrize(("sent", "kept"), [(TRACE, TRACE), ("00-nonsense", None), (None, None)])
def test_a_submission_keeps_its_trace(
    desk: IntakeRig, client: TestClient, sent: str | None, kept: str | None
) -> None:
    """The header of a single and of a batch call is stored with each job; a bad one is not."""
    headers = {"traceparent": sent} if sent else {}
    assert client.post("/v1/jobs", json={"prompt": "x"}, headers=headers).status_code == 202
    batch = {"jobs": [{"prompt": "y"}, {"prompt": "z"}]}
    assert client.post("/v1/jobs:batch", json=batch, headers=headers).status_code == 202
    assert [job["trace"] for job in desk.jobs(3)] == [kept] * 3
