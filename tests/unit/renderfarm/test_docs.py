"""The SDK's pages: their code runs."""

from __future__ import annotations

import functools
import json
import re
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import renderfarm
from renderfarm import AsyncFarm, Farm
from renderfarm.testing import FakeFarm
from renderfarm.webhooks import sign

DOCS = Path(__file__).parents[3] / "docs"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def blocks(page: str) -> list[str]:
    """Give the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


SDK = blocks("reference/sdk.md")
WEBHOOKS = blocks("howto/receive-webhooks.md")
PICTURES = blocks("howto/start-from-pictures.md")


@pytest.mark.parametrize("code", [*SDK, *PICTURES, WEBHOOKS[0], WEBHOOKS[-1]])
def test_examples_run(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each example runs to its end as it is printed, on a fake farm where it needs one."""
    monkeypatch.chdir(tmp_path)
    Path("cat.png").write_bytes(b"pixels")
    fake = FakeFarm()
    if "FakeFarm" not in code:
        monkeypatch.setattr(renderfarm, "Farm", functools.partial(Farm, transport=fake))
        monkeypatch.setattr(renderfarm, "AsyncFarm", functools.partial(AsyncFarm, transport=fake))
    exec(compile(code, "example", "exec", dont_inherit=True), {"__name__": "example"})  # noqa: S102 - our own pages


@pytest.mark.parametrize("code", WEBHOOKS)
def test_every_example_is_python(code: str) -> None:
    """Examples for frameworks that are not installed here are at least valid Python."""
    compile(code, "example", "exec", dont_inherit=True)


def test_the_receiver_receives(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The FastAPI receiver takes a signed delivery and answers 400 to a changed one."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    (code,) = [each for each in WEBHOOKS if "from fastapi" in each]
    space: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "example", "exec", dont_inherit=True), space)  # noqa: S102 - our own pages
    job = {"id": "1", "status": "succeeded", "metadata": {"order": 5}}
    at = "2026-01-01T00:00:00Z"
    body = json.dumps({"type": "job.succeeded", "timestamp": at, "data": job})
    headers = sign(body, "msg_1", int(time.time()), SECRET)
    client = TestClient(space["app"])  # type: ignore[arg-type]
    assert client.post("/renderfarm", content=body, headers=headers).status_code == 204
    assert "{'order': 5}" in capsys.readouterr().out
    assert client.post("/renderfarm", content=body + " ", headers=headers).status_code == 400


def test_the_flask_receiver_receives(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a signed delivery, hands it on, and answers 400 to a changed one."""
    pytest.importorskip("flask", reason="Flask is not installed")
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    (code,) = [each for each in WEBHOOKS if "from flask" in each]
    later: list[object] = []
    space: dict[str, object] = {"__name__": "example", "queue_for_later": later.append}
    exec(compile(code, "example", "exec", dont_inherit=True), space)  # noqa: S102 - our own pages
    job = {"id": "1", "status": "succeeded"}
    event = {"type": "job.succeeded", "timestamp": "2026-01-01T00:00:00Z", "data": job}
    body = json.dumps(event)
    headers = sign(body, "msg_1", int(time.time()), SECRET)
    app = space["app"]
    client = app.test_client()  # type: ignore[attr-defined]
    assert client.post("/renderfarm", data=body, headers=headers).status_code == 204
    assert client.post("/renderfarm", data=body + " ", headers=headers).status_code == 400
    assert len(later) == 1
