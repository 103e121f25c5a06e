"""`renderfarm up`: the whole farm in its own folder, with the model that needs no torch."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from app.local import ports
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, str(REPOSITORY / "bin" / "renderfarm"), "up")
MODELS = '[null]\npipeline = "null"\n'
PROCESSES = ["postgres", "redis", "api", "dispatcher", "courier", "worker-1", "flower"]


@pytest.fixture
def farm_directory(tmp_path: Path) -> Path:
    """The farm's directory, with a models file next to it."""
    (tmp_path / "models.toml").write_text(MODELS)
    return tmp_path / "var"


def start(directory: Path, *more: str) -> subprocess.Popen[str]:
    """Start `renderfarm up` in the directory, on free ports."""
    models = str(directory.parent / "models.toml")
    return subprocess.Popen(
        [*COMMAND, "--dir", str(directory), "--port", "0", "--models", "null", *more],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "RENDERFARM_MODELS": models},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory.parent,
    )


@contextmanager
def running(directory: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Yield a ready farm, and its `farm.json`."""
    with start(directory) as farm:
        try:
            file = directory / "farm.json"
            until(lambda: file.exists() or farm.poll() is not None)
            assert farm.poll() is None, farm.communicate()[0]
            yield farm, json.loads(file.read_text())
        finally:
            farm.kill()


def listens(url: str) -> bool:
    """Whether a server listens at the URL."""
    return not ports.is_free(httpx.URL(url).port or 0)


def test_starts_stops_and_finds_its_data_again(farm_directory: Path) -> None:
    """All is up when `farm.json` is there.

    Ctrl-C leaves nothing; the next start has the same key.
    """
    with running(farm_directory) as (farm, access):
        assert stat.S_IMODE((farm_directory / "farm.json").stat().st_mode) == 0o600
        assert list(access["processes"]) == PROCESSES
        assert httpx.get(access["url"] + "/readyz").is_success
        login = (access["flower_user"], access["flower_password"])
        assert httpx.get(access["flower_url"], auth=login).is_success
        job = httpx.post(
            access["url"] + "/v1/jobs",
            json={"prompt": "a red circle"},
            headers={"Authorization": f"Bearer {access['api_key']}"},
        )
        assert job.status_code == httpx.codes.ACCEPTED, job.text
        farm.send_signal(signal.SIGINT)
        output, _ = farm.communicate(timeout=PATIENCE_S)
        assert farm.returncode == 0
    assert access["api_key"] in output
    assert not (farm_directory / "farm.json").exists()
    for name in ("url", "flower_url", "database_url", "broker_url"):
        assert not listens(access[name]), name
    with running(farm_directory) as (_, again):
        assert again["api_key"] == access["api_key"]
        found = httpx.get(
            f"{again['url']}/v1/jobs/{job.json()['id']}",
            headers={"Authorization": f"Bearer {again['api_key']}"},
        )
        assert found.is_success


def test_dead_process_is_replaced(farm_directory: Path) -> None:
    """A role that is killed starts again, and `farm.json` names its new process."""
    with running(farm_directory) as (_, access):
        old = access["processes"]["dispatcher"]
        os.kill(old, signal.SIGKILL)

        def renewed() -> bool:
            now = json.loads((farm_directory / "farm.json").read_text())
            return now["processes"].get("dispatcher", old) != old

        assert until(renewed)


def test_killed_farm_leaves_no_process_and_starts_again(farm_directory: Path) -> None:
    """After kill -9 of the supervisor no process remains, and the next start is clean."""
    with running(farm_directory) as (farm, access):
        farm.kill()
        until(lambda: not any(listens(access[k]) for k in ("url", "database_url")))
    assert (farm_directory / "farm.json").exists()  # a killed farm cannot remove it
    (farm_directory / "farm.json").unlink()
    with running(farm_directory) as (_, again):
        assert again["api_key"] == access["api_key"]


def test_second_farm_in_a_folder_is_refused(farm_directory: Path) -> None:
    """A second farm in the same directory is refused in one line, with the first one's pid."""
    with running(farm_directory) as (farm, _):
        second = start(farm_directory)
        output, _ = second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 1
        assert (
            output == f"renderfarm up: a farm already runs in {farm_directory} (pid {farm.pid})\n"
        )


def test_taken_port_is_named(farm_directory: Path) -> None:
    """A taken port ends the start with one line, before any process starts."""
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        farm = start(farm_directory, "--port", str(port))
        output, _ = farm.communicate(timeout=PATIENCE_S)
    assert farm.returncode == 1
    assert output.startswith(f"renderfarm up: port {port} is taken")
    assert output.count("\n") == 1
    assert not (farm_directory / "postgres" / "data").exists()


def test_unknown_model_is_named(farm_directory: Path) -> None:
    """An unknown model ends the start with one line."""
    farm = start(farm_directory, "--models", "dreams")
    output, _ = farm.communicate(timeout=PATIENCE_S)
    assert farm.returncode == 1
    assert "has no model dreams" in output
    assert output.count("\n") == 1
