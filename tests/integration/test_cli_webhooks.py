"""`renderfarm endpoints`, `deliveries`, `tenants` and `listen`, on a real database."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.cli.listen import Receiver
from app.config.repository import REPOSITORY
from app.local.roles import COMMAND
from app.tenants.tenants import embeds_prompt, find_by_name
from renderfarm.webhooks import sign
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.records import FarmDatabase

URL = "https://shop.example/hook"


@pytest.fixture
def run(farm: FarmDatabase, database_url: str, tmp_path: Path) -> Callable[..., Result]:
    """A function that runs the command on the database of a farm with the tenant `ann`."""
    assert farm.tenant.name == "ann"
    environment = {
        "RENDERFARM_DATABASE_URL": database_url,
        "RENDERFARM_BROKER_URL": "redis://127.0.0.1:1/0",
        "RENDERFARM_DIR": str(tmp_path),
        "COLUMNS": "300",
    }

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env=environment)

    return invoke


def output_of(result: Result) -> str:
    """Return the output of a command, which must succeed."""
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_an_endpoints_life(run: Callable[..., Result], farm: FarmDatabase) -> None:
    """An endpoint is added, listed, changed, rotated, disabled, enabled and removed."""
    added = output_of(run("endpoints", "add", URL, "--tenant", "ann", "--event", "job.failed"))
    endpoint_id, secret = added.split()
    assert secret.startswith("whsec_")
    ann = ("--tenant", "ann")
    assert output_of(run("endpoints", "secret", endpoint_id, *ann)) == secret
    listed = output_of(run("endpoints", "list", *ann))
    assert URL in listed
    assert "job.failed" in listed
    moved = ("--url", "https://new.example/", "--event", "job.started")
    assert output_of(run("endpoints", "change", endpoint_id, *ann, *moved)) == "changed"
    listed = output_of(run("endpoints", "list", *ann))
    assert "https://new.example/" in listed
    assert "job.started" in listed
    assert "job.failed" not in listed
    assert output_of(run("endpoints", "change", endpoint_id, *ann, "--all-final")) == "changed"
    changed = output_of(run("endpoints", "list", *ann))
    assert "all final" in changed
    assert "https://new.example/" in changed
    assert run("endpoints", "change", endpoint_id, *ann, "--url", "http://x/").exit_code == 1
    assert run("endpoints", "change", endpoint_id, *ann).exit_code == 2
    rotated = output_of(run("endpoints", "rotate", endpoint_id, *ann, "--grace", "60"))
    assert rotated not in {secret, ""}
    assert output_of(run("endpoints", "secret", endpoint_id, *ann)) == rotated
    assert output_of(run("endpoints", "disable", endpoint_id, *ann)) == "disabled"
    assert "disabled: you disabled it" in output_of(run("endpoints", "list", *ann))
    assert output_of(run("endpoints", "enable", endpoint_id, *ann)) == "enabled"
    assert output_of(run("endpoints", "remove", endpoint_id, *ann)) == "removed"
    assert "new.example" not in output_of(run("endpoints", "list", *ann))
    assert run("endpoints", "secret", endpoint_id, *ann).exit_code == 1
    assert farm.breaches() == []


@pytest.mark.parametrize(
    "arguments", [("http://shop.example/",), ("https://10.0.0.1/",), (URL, "--event", "job.x")]
)
def test_a_bad_endpoint_is_one_line(run: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    """The command refuses what the API refuses, in one line."""
    result = run("endpoints", "add", *arguments, "--tenant", "ann")
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1


def test_deliveries_are_listed_and_sent_again(
    run: Callable[..., Result], farm: FarmDatabase
) -> None:
    """Deliveries are replayed by id, or all since a time."""
    output_of(run("endpoints", "add", URL, "--tenant", "ann"))
    for _ in range(2):
        farm.finish(farm.claimed())
    farm.execute("UPDATE outbox SET state = 'dead', last_error = 'it hung up'")
    ann = ("--tenant", "ann")
    listed = output_of(run("deliveries", "list", *ann, "--state", "dead"))
    assert listed.count("it hung up") == 2
    (first, _) = farm.rows("SELECT id FROM outbox ORDER BY id")
    assert output_of(run("deliveries", "replay", str(first["id"]), *ann)) == "1 will be sent again"
    since = ("--since", "2020-01-01", "--state", "dead")
    assert output_of(run("deliveries", "replay", *since, *ann)) == "1 will be sent again"
    assert {row["state"] for row in farm.rows("SELECT state FROM outbox")} == {"pending"}
    assert run("deliveries", "replay", *ann).exit_code == 2


def test_each_try_of_a_delivery_is_shown(run: Callable[..., Result], farm: FarmDatabase) -> None:
    """Each try is shown with its answer unchanged, also with markup in it."""
    output_of(run("endpoints", "add", URL, "--tenant", "ann", "--description", "[/shop]"))
    farm.finish(farm.claimed())
    (row,) = farm.rows("SELECT id FROM outbox")
    farm.execute("UPDATE outbox SET last_error = 'answered 500: [/red]'")
    farm.execute(
        """INSERT INTO tries (delivery_id, status, error, answer, took_s)
           VALUES (:i, 500, 'answered 500: [/red]', '[/red]', 0.25), (:i, NULL, 'hung up', '', 1)""",
        i=row["id"],
    )
    ann = ("--tenant", "ann")
    shown = output_of(run("deliveries", "show", str(row["id"]), *ann))
    assert f"to {URL}: pending" in shown
    for part in ("0.250 s", "500", "[/red]", "1.000 s", "hung up"):
        assert part in shown
    assert "[/red]" in output_of(run("deliveries", "list", *ann))
    assert "[/shop]" in output_of(run("endpoints", "list", *ann))
    assert run("deliveries", "show", str(row["id"])).exit_code == 1


def test_a_tenants_limits_and_secret(run: Callable[..., Result], farm: FarmDatabase) -> None:
    """Limits are set and removed, and the secret is shown and rotated."""
    limits = ("--max-queued", "5", "--url-expiry-s", "60", "--no-embed-prompt")
    assert "set" in output_of(run("tenants", "set", "ann", *limits))
    tenant = find_by_name(farm.engine, "ann")
    assert (tenant.max_queued, tenant.url_expiry_s) == (5, 60)
    assert not embeds_prompt(farm.engine, tenant.id)
    assert "set" in output_of(run("tenants", "set", "ann", "--url-expiry-s", "none"))
    assert find_by_name(farm.engine, "ann").url_expiry_s is None
    assert "ann" in output_of(run("tenants"))
    before = output_of(run("tenants", "secret", "ann"))
    after = output_of(run("tenants", "rotate", "ann"))
    assert after != before
    assert output_of(run("tenants", "secret", "ann")) == after
    assert run("tenants", "secret", "nobody").exit_code == 1


def test_listening_needs_a_farm_that_posts_here(
    run: Callable[..., Result], farm: FarmDatabase
) -> None:
    """Without private addresses the error names the setting, and no endpoint remains."""
    result = run("listen", "--tenant", "ann")
    assert result.exit_code == 1
    assert "RENDERFARM_WEBHOOK_ALLOW_PRIVATE=1" in result.output
    assert farm.rows("SELECT * FROM endpoints WHERE state <> 'deleted'") == []


def test_listening_until_sigterm(farm: FarmDatabase, database_url: str, tmp_path: Path) -> None:
    """`listen` receives deliveries at its endpoint, and removes the endpoint at its end."""
    environment = {
        "RENDERFARM_DATABASE_URL": database_url,
        "RENDERFARM_BROKER_URL": "redis://127.0.0.1:1/0",
        "RENDERFARM_WEBHOOK_ALLOW_PRIVATE": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [*COMMAND, "listen", "--tenant", farm.tenant.name, "--event", "job.started"]
    with (tmp_path / "output").open("wb") as out:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=out)
    try:
        (row,) = until(lambda: farm.rows("SELECT * FROM endpoints WHERE state = 'enabled'"))
        job = {"id": "0199", "status": "running"}
        event = {"type": "job.started", "timestamp": "2026-01-01T00:00:00Z", "data": job}
        body = json.dumps(event)
        headers = sign(body, "msg_1", int(time.time()), row["secret"])
        with httpx.Client(trust_env=False) as client:
            assert client.post(row["url"], content=body, headers=headers).status_code == 204
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "output").read_text() == "verified  job.started  0199  running\n"
    assert [row["events"] for row in farm.rows("SELECT * FROM endpoints")] == [["job.started"]]
    assert farm.rows("SELECT * FROM endpoints WHERE state <> 'deleted'") == []


@pytest.fixture
def lines() -> list[str]:
    """The lines that the receiver printed."""
    return []


@pytest.fixture
def receiver(lines: list[str]) -> Iterator[Receiver]:
    """A running receiver."""
    with Receiver(0, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", lines.append) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_receiver_verifies_and_prints(receiver: Receiver, lines: list[str]) -> None:
    """Signed deliveries are printed and accepted; others are printed and refused."""
    job = {"id": "0199", "status": "succeeded"}
    body = json.dumps({"type": "job.succeeded", "timestamp": "2026-01-01T00:00:00Z", "data": job})
    assert receiver.secret is not None
    headers = sign(body, "msg_1", int(time.time()), receiver.secret)
    with httpx.Client(trust_env=False) as client:
        assert client.post(receiver.url, content=body, headers=headers).status_code == 204
        assert client.post(receiver.url, content=body + " ", headers=headers).status_code == 400
        receiver.secret = None
        assert client.post(receiver.url, content=body).status_code == 204
        for no_event in ("{", "[]", "7", '{"type": "job.failed"}', '{"data": {}}'):
            assert client.post(receiver.url, content=no_event).status_code == 400
    assert [line.partition("  ")[0] for line in lines] == [
        "verified", "REFUSED", "NOT VERIFIED", *["REFUSED"] * 5,
    ]  # fmt: skip
    assert lines[0] == "verified  job.succeeded  0199  succeeded"
