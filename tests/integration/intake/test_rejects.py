"""`renderfarm rejects`: what was refused, and its second chance."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.intake.rejects import NewReject, Rejects, name_of
from app.jobs.request import LIMIT_BYTES
from renderfarm.queues import Outgoing

if TYPE_CHECKING:
    from app.jobs.records import Row
    from tests.integration.intake.rig import IntakeRig

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def url(desk: IntakeRig) -> str:
    """A queue nobody has used."""
    return desk.memory()


def refused(desk: IntakeRig, url: str, *bodies: bytes) -> list[Row]:
    """Send these bodies, which intake refuses; their records."""
    sent = [Outgoing(body, attributes={"traceparent": TRACE}) for body in bodies]
    desk.queue(url).put(sent)
    with desk.reading(url):
        return desk.rejects(len(bodies))


def run(
    desk: IntakeRig, url: str, *arguments: str, stdin: bytes = b"", **defaults: object
) -> Result:
    """The command, with the settings that intake had."""
    environment = desk.environment(url, **defaults)
    return CliRunner().invoke(main, ["rejects", *arguments], input=stdin, env=environment)


def test_list_names_each_message_and_what_was_wrong(desk: IntakeRig, url: str) -> None:
    """Newest first, for one reason if asked, and without those that became jobs since."""
    unknown = json.dumps({"prompt": "x", "model": "new"}).encode()
    rows = refused(desk, url, b"{", unknown)
    listed = run(desk, url, "list").output
    for row in rows:
        assert str(row["id"])[:8] in listed
    assert "unknown" in run(desk, url, "list", "--code", "unknown_model").output
    assert "invalid" not in run(desk, url, "list", "--code", "unknown_model").output
    assert "invalid" not in run(desk, url, "list", "--source", "sqs://r/q").output


def test_show_gives_the_body_back(desk: IntakeRig, url: str) -> None:
    """With its hash and reason for a reader, or alone and byte for byte for a program."""
    body = b'{"prompt": "\xff"}'
    (row,) = refused(desk, url, body)
    shown = run(desk, url, "show", str(row["id"]))
    assert hashlib.sha256(body).hexdigest() in shown.output
    assert "invalid_json" in shown.output
    assert run(desk, url, "show", str(row["id"]), "--body").stdout_bytes == body


def test_show_of_nothing_is_one_line(desk: IntakeRig, url: str) -> None:
    """An id that is none is said in one line."""
    result = run(desk, url, "show", str(uuid4()))
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1


def test_what_was_mended_in_the_farm_is_replayed_as_it_was(desk: IntakeRig, url: str) -> None:
    """Once the model is served, every such message becomes the job it would have been, once."""
    job_id = str(uuid4())
    named = json.dumps({"id": job_id, "prompt": "x", "model": "new"}).encode()
    nameless = json.dumps({"prompt": "y", "model": "new"}).encode()
    refused(desk, url, named, nameless, b"{")
    assert run(desk, url, "replay", "--code", "unknown_model").exit_code == 1
    desk.serve("new")
    result = run(desk, url, "replay", "--code", "unknown_model", priority=3)
    assert result.exit_code == 0, result.output
    jobs = desk.jobs(2)
    assert job_id in {str(job["id"]) for job in jobs}
    assert {(job["trace"], job["priority"]) for job in jobs} == {(TRACE, 3)}
    assert run(desk, url, "replay", "--code", "unknown_model").output == ""
    assert len(desk.jobs(0)) == 2
    mended = {row["job_id"] for row in desk.rejects(3) if row["replayed_at"]}
    assert mended == {job["id"] for job in jobs}


def test_a_bad_body_is_replayed_mended(desk: IntakeRig, url: str) -> None:
    """As it was it is refused again; a mended body from standard input becomes the job."""
    (row,) = refused(desk, url, b'{"prompt": "x", "widht": 64}')
    again = run(desk, url, "replay", str(row["id"]))
    assert again.exit_code == 1
    assert "widht" in again.output
    mended = b'{"prompt": "x", "width": 64}'
    for _ in range(2):
        result = run(desk, url, "replay", str(row["id"]), "--body", "-", stdin=mended)
        assert result.exit_code == 0, result.output
    (job,) = desk.jobs(1)
    assert str(job["id"]) in result.output


def test_a_body_that_was_cut_needs_its_whole(desk: IntakeRig, url: str) -> None:
    """Of a message that is too large its beginning is kept, and that is never replayed for it."""
    body = json.dumps({"prompt": "x", "negative_prompt": "y" * 300_000}).encode()
    (row,) = refused(desk, url, body)
    assert bytes(row["body"]) == body[:LIMIT_BYTES]
    assert bytes(row["body_sha256"]) == hashlib.sha256(body).digest()
    assert row["body_bytes"] == len(body)
    result = run(desk, url, "replay", str(row["id"]))
    assert result.exit_code == 1
    assert "are kept" in result.output


ONE, TWO = (f"00000000-0000-7000-8000-00000000000{n}" for n in (1, 2))


@pytest.mark.parametrize("arguments", [(), (ONE, "--code", "x"), (ONE, TWO, "--body", "-")])
def test_replay_must_be_told_what(desk: IntakeRig, url: str, arguments: tuple[str, ...]) -> None:
    """Messages or a reason, and one message for a mended body: anything else is a usage error."""
    assert run(desk, url, "replay", *arguments).exit_code == 2


def test_a_refusal_is_recorded_once(desk: IntakeRig) -> None:
    """A second delivery writes no second row; another body of the same name does."""
    rejects = Rejects(desk.farm.engine)
    tenant_id = desk.farm.tenant.id
    first = NewReject(tenant_id, "memory://q", "m", "code", "detail", b"a")
    other = NewReject(tenant_id, "memory://q", "m", "code", "detail", b"b")
    rejects.record([])
    rejects.record([first])
    rejects.record([first, other])
    assert [bytes(row["body"]) for row in desk.rejects(2)] == [b"a", b"b"]


@pytest.mark.parametrize("name", ["m\0", "x" * 256, "\ud800", "a\nb"])
def test_any_name_of_a_message_can_be_kept(name: str) -> None:
    """What Postgres or its index cannot hold goes by its hash."""
    assert len(name_of(name)) == 64
    assert name_of("m-1") == "m-1"
