"""The page on webhooks: each receiver runs in its framework."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from starlette.testclient import TestClient

from renderfarm.webhooks import sign

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[3] / "docs/howto/receive-webhooks.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
EVENT = {
    "type": "job.succeeded",
    "timestamp": "2026-01-01T00:00:00Z",
    "data": {"id": "1", "status": "succeeded", "metadata": {"order": 5}},
}
BODY = json.dumps(EVENT)


def receiver(framework: str, **given: object) -> dict[str, Any]:
    """The names that the page's receiver for a framework defines.

    `given` is what it leaves open.
    """
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (code,) = [each for each in blocks if f"from {framework}" in each]
    space: dict[str, Any] = {"__name__": "example", **given}
    exec(compile(code, "example", "exec", dont_inherit=True), space)  # noqa: S102 - our own pages
    return space


def headers(secret: str = SECRET) -> dict[str, str]:
    """Return the headers of a delivery that was just signed."""
    return sign(BODY, "msg_1", int(time.time()), secret)


def test_the_fastapi_receiver_receives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It accepts a signed delivery, and answers 400 to a changed or wrongly signed one."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    client = TestClient(receiver("fastapi")["app"])
    assert client.post("/renderfarm", content=BODY, headers=headers()).status_code == 204
    assert "{'order': 5}" in capsys.readouterr().out
    assert client.post("/renderfarm", content=BODY + " ", headers=headers()).status_code == 400
    assert client.post("/renderfarm", content=BODY, headers=headers(OTHER)).status_code == 400
    assert capsys.readouterr().out == ""


def test_the_flask_receiver_receives(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts a signed delivery, passes it on, and answers 400 to forged ones."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    later: list[Any] = []
    client = receiver("flask", queue_for_later=later.append)["app"].test_client()
    assert client.post("/renderfarm", data=BODY, headers=headers()).status_code == 204
    assert client.post("/renderfarm", data=BODY + " ", headers=headers()).status_code == 400
    assert client.post("/renderfarm", data=BODY, headers=headers(OTHER)).status_code == 400
    assert [event.job.metadata for event in later] == [{"order": 5}]


def test_the_django_receiver_receives() -> None:
    """It accepts a signed delivery despite CSRF protection, and refuses changed ones and GETs."""
    from django.conf import settings  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415
    from django.urls import path  # noqa: PLC0415

    later: list[Any] = []
    urls = ModuleType("urls")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("renderfarm", receiver("django", queue_for_later=later.append)["receive"])
    ]
    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        ROOT_URLCONF=urls,
        WEBHOOK_SECRET=SECRET,
    )
    client = Client(enforce_csrf_checks=True)

    def post(body: str, given: dict[str, str]) -> int:
        answer = client.post("/renderfarm", body, content_type="application/json", headers=given)
        return int(answer.status_code)

    assert post(BODY, headers()) == 204
    assert post(BODY + " ", headers()) == 400
    assert post(BODY, headers(OTHER)) == 400
    assert post(BODY, {}) == 400
    assert client.get("/renderfarm").status_code == 405
    assert [event.job.metadata for event in later] == [{"order": 5}]
