"""A job over HTTP: looked at, waited for, listed, cancelled, followed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from app.jobs.records import Failure
from tests.integration.api_server import client, fields, problem, server, submit
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.integration.api_server import Server
    from tests.integration.records import FarmDatabase

__all__ = ["client", "server"]


@pytest.mark.parametrize("path", ["nonsense", "1", "%00", "0199-"])
def test_what_cannot_be_a_job_is_not_found(client: httpx.Client, path: str) -> None:
    """404 for a path that is no id."""
    problem(client.get(f"/v1/jobs/{path}"), 404, "not_found")


def test_waiting_ends_when_the_job_does(
    client: httpx.Client, server: Server, farm: FarmDatabase
) -> None:
    """`wait` holds the answer until the job is final, and then says how it ended."""
    job_id = submit(client)["id"]
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.get, f"/v1/jobs/{job_id}?wait=60")
        until(lambda: job_id in server.context.hub._waiting)
        claim = farm.claimed(UUID(job_id))
        assert not answer.done()
        farm.finish(claim)
        job = answer.result(PATIENCE_S).json()
    assert (job["status"], job["attempt"]) == ("succeeded", 1)
    assert (job["gpu_seconds"], job["timings"]["render_s"]) == (0.25, 0.5)
    assert job["progress"] == {"step": 1, "steps": 1}
    assert job_id not in server.context.hub._waiting


def test_waiting_has_an_end(client: httpx.Client) -> None:
    """A job that does not end is answered as it is when the time is over."""
    job = client.get(f"/v1/jobs/{submit(client)['id']}?wait=0.01").json()
    assert (job["status"], job["position"]) == ("queued", 0)


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "long"])
def test_a_wait_is_a_number_of_seconds_up_to_a_minute(client: httpx.Client, wait: str) -> None:
    """Any other wait is refused by name."""
    assert fields(client.get(f"/v1/jobs/{uuid4()}?wait={wait}")) == ["wait"]


def test_a_failed_job_shows_its_error(client: httpx.Client, farm: FarmDatabase) -> None:
    """The code and the message that the worker gave."""
    job_id = submit(client)["id"]
    farm.claimed(UUID(job_id))
    farm.store.fail(UUID(job_id), 1, Failure("bad_image", "no picture"), 3)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert job["error"] == {"code": "bad_image", "message": "no picture"}


def test_pages_show_every_job_once_newest_first(client: httpx.Client) -> None:
    """Following the cursor brings each job exactly once, in order, and then ends."""
    made = [submit(client, prompt=str(n))["id"] for n in range(7)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"/v1/jobs?limit=3&cursor={cursor}").json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["cursor"]
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, reverse=True)


def test_lists_are_filtered(client: httpx.Client) -> None:
    """By status and by model."""
    gone, stays = submit(client)["id"], submit(client)["id"]
    client.post(f"/v1/jobs/{gone}/cancel")

    def ids(query: str) -> list[str]:
        return [job["id"] for job in client.get(f"/v1/jobs?{query}").json()["jobs"]]

    assert ids("status=cancelled") == [gone]
    assert ids("status=queued&model=null") == [stays]
    assert ids("model=other") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("status=asleep", "status"), ("limit=0", "limit"), ("limit=201", "limit"),
     ("limit=x", "limit"), ("cursor=x", "cursor"), ("model=%00", "model")],
)  # fmt: skip
def test_a_bad_list_is_refused_by_name(client: httpx.Client, query: str, field: str) -> None:
    """422 naming the parameter."""
    assert fields(client.get(f"/v1/jobs?{query}")) == [field]


def test_cancelling_ends_a_job_once(client: httpx.Client, farm: FarmDatabase) -> None:
    """200 with the cancelled job, running or not, and 409 from then on."""
    for running in (False, True):
        job_id = submit(client)["id"]
        if running:
            farm.claimed(UUID(job_id))
        response = client.post(f"/v1/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        again = client.post(f"/v1/jobs/{job_id}/cancel")
        assert "cancelled already" in problem(again, 409, "job_final")["detail"]


def told(lines: Iterator[str]) -> tuple[str, dict[str, Any]]:
    """The next event of a stream: its name and its data."""
    name = next(line for line in lines if line.startswith("event: "))
    data = next(lines)
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_events_tell_a_job_s_life_to_its_end(client: httpx.Client, farm: FarmDatabase) -> None:
    """The current state first, then each step and state; the stream ends with the job."""
    job_id = UUID(submit(client, num_inference_steps=10)["id"])
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        name, job = told(lines)
        assert (name, job["id"], job["status"]) == ("state", str(job_id), "queued")
        claim = farm.claimed(job_id)
        assert told(lines)[1]["status"] == "running"
        farm.store.renew({(job_id, 1): 4}, 30.0)
        assert told(lines) == ("progress", {"step": 4, "steps": 10, "preview": None})
        farm.finish(claim)
        rest = [told(lines), told(lines)]
        assert [name for name, _ in rest] == ["progress", "state"]
        assert rest[1][1]["status"] == "succeeded"
        assert list(lines) == [""]


def test_events_of_a_job_under_way_begin_with_its_state(
    client: httpx.Client, farm: FarmDatabase
) -> None:
    """A late client gets the state with the progress first, then the changes."""
    job_id = UUID(submit(client, num_inference_steps=10)["id"])
    farm.claimed(job_id)
    farm.store.renew({(job_id, 1): 4}, 30.0)
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        lines = stream.iter_lines()
        name, job = told(lines)
        assert (name, job["progress"]["step"]) == ("state", 4)
        farm.store.cancel(job_id, farm.tenant.id)
        assert told(lines)[1]["status"] == "cancelled"


def test_events_of_an_ended_job_are_its_end(client: httpx.Client) -> None:
    """One state, then nothing."""
    job_id = submit(client)["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    text = client.get(f"/v1/jobs/{job_id}/events").text
    assert text.count("event: ") == 1
    assert '"cancelled"' in text
