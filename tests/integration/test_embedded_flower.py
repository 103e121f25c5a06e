"""Flower with a real worker and a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from app.broker import create_app, publish
from app.local import ports
from app.local.redis import Redis
from tests.waiting import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PASSWORD = "a password of our own"
START = "from app import flower; from app.config.settings import Settings; import os;"
PATIENCE_S = 60.0
REQUEST = {
    "model": "scenes",
    "prompt": "a <b>red</b> circle",
    "width": 128,
    "height": 64,
    "num_images": 1,
    "num_inference_steps": 20,
}

QUERY: dict[str, str | int] = {
    "draw": 1,
    "start": 0,
    "length": 10,
    "search[value]": "",
    "order[0][column]": 0,
    "order[0][dir]": "desc",
    "columns[0][data]": "received",
}


@contextmanager
def role(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a Python process of the farm with these settings, and stop it at the end."""
    variables = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), **environment}
    with subprocess.Popen([sys.executable, *command], env=variables) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server for these tests."""
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


@pytest.fixture(scope="module")
def flower(broker: str) -> Iterator[str]:
    """The URL of a Flower that answers."""
    port = ports.free()
    settings = {
        "RENDERFARM_BROKER_URL": broker,
        "RENDERFARM_DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
        "RENDERFARM_FLOWER_PORT": str(port),
        "RENDERFARM_FLOWER_PASSWORD": PASSWORD,
    }
    start = f"{START} flower.main(Settings.from_environment(os.environ))"
    with role("-c", start, **settings) as process:
        url = f"http://{ports.LOOPBACK}:{port}"
        assert poll(lambda: is_up(process, url), PATIENCE_S)
        yield url


def is_up(process: subprocess.Popen[bytes], url: str) -> bool:
    """Whether Flower answers. Fail if its process has ended."""
    assert process.poll() is None
    try:
        return httpx.get(f"{url}/healthcheck").is_success
    except httpx.TransportError:
        return False


def test_a_render_can_be_read_in_the_list(broker: str, flower: str) -> None:
    """Flower lists job id, model, size and outcome of each render, without its payload."""
    good, bad = uuid.uuid4(), uuid.UUID(int=0)
    with role(str(HERE / "small_worker.py"), RENDERFARM_BROKER_URL=broker):
        for job_id in (good, bad):
            publish(create_app(broker), job_id, 0, REQUEST)

        def finished() -> dict[str, Any] | None:
            answer = httpx.get(f"{flower}/tasks/datatable", params=QUERY, auth=("farm", PASSWORD))
            rows: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
            ended = [row for row in rows if row["state"] in {"SUCCESS", "FAILURE"}]
            return {row["uuid"]: row for row in ended} if len(ended) > 1 else None

        shown = poll(finished, PATIENCE_S)
        assert shown, "Flower did not show the task as finished"
    assert shown[f"{good}.1"]["args"] == "scenes 128x64 20 steps: a <b>red</b> circle"
    assert shown[f"{good}.1"]["result"] == "succeeded 1 image 0.42 s"
    assert shown[f"{bad}.1"]["state"] == "FAILURE"
    assert shown[f"{bad}.1"]["result"] == "RuntimeError('out of memory')"
    page = httpx.get(f"{flower}/tasks", auth=("farm", PASSWORD)).text
    columns = [part.split('"')[0] for part in page.split('data-column="')[1:]]
    assert columns == ["uuid", "args", "state", "result", "runtime", "received", "worker"]


@pytest.mark.parametrize("path", ["/", "/tasks", "/tasks/datatable", "/api/tasks", "/api/workers"])
def test_nothing_is_shown_without_the_password(flower: str, path: str) -> None:
    """Pages and API require the password, and refuse a wrong one."""
    assert httpx.get(flower + path).status_code == httpx.codes.UNAUTHORIZED
    wrong = httpx.get(flower + path, auth=("farm", "wrong"))
    assert wrong.status_code == httpx.codes.UNAUTHORIZED


def test_it_only_shows(flower: str) -> None:
    """Flower runs no task and stops no worker, even with the password."""
    answer = httpx.post(
        f"{flower}/api/task/async-apply/render", json={"args": []}, auth=("farm", PASSWORD)
    )
    assert answer.status_code == httpx.codes.FORBIDDEN


def test_no_password_no_flower(broker: str) -> None:
    """Without a password Flower does not start, and the error names the variable."""
    start = f"{START} flower.main(Settings.from_environment(os.environ))"
    settings = {"RENDERFARM_BROKER_URL": broker, "RENDERFARM_DATABASE_URL": "postgresql://x/y"}
    outcome = subprocess.run(
        [sys.executable, "-c", start],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode != 0
    assert "RENDERFARM_FLOWER_PASSWORD" in outcome.stderr
