"""Jobs come in by HTTP, one and many; what is wrong with them is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from app.jobs.request import LIMIT_BYTES
from tests.integration.api_server import client, fields, problem, server, submit

if TYPE_CHECKING:
    import httpx

    from tests.integration.records import FarmDatabase

__all__ = ["client", "server"]


def test_a_submission_is_answered_with_its_job(client: httpx.Client) -> None:
    """202 with the job, where to find it, and every default filled in."""
    response = client.post("/v1/jobs", json={"prompt": "a red circle", "seed": 7})
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["attempt"], job["images"]) == ("queued", 0, [])
    assert (job["request"]["model"], job["request"]["width"]) == ("null", 64)
    assert client.get(response.headers["location"]).json() | {"position": None} == job


def test_a_repeat_is_answered_with_the_old_job(client: httpx.Client) -> None:
    """The same Idempotency-Key with the same body is 200 and the same job."""
    keyed = {"Idempotency-Key": "order 7"}
    first = client.post("/v1/jobs", json={"prompt": "a"}, headers=keyed)
    again = client.post("/v1/jobs", content=b'{ "prompt" : "a" }', headers=keyed)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["request"]["seed"] == again.json()["request"]["seed"]


def test_the_same_key_for_something_else_is_a_conflict(client: httpx.Client) -> None:
    """409 with both hashes, and no second job."""
    keyed = {"Idempotency-Key": "k"}
    client.post("/v1/jobs", json={"prompt": "a"}, headers=keyed)
    response = client.post("/v1/jobs", json={"prompt": "b"}, headers=keyed)
    detail = problem(response, 409, "idempotency_conflict")["detail"]
    assert "the earlier body's hash is" in detail
    assert "this body's is" in detail
    assert len(client.get("/v1/jobs").json()["jobs"]) == 1


WRONG: list[tuple[Any, str]] = [
    ({}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 10_000}, "prompt"),
    ({"prompt": "a\0b"}, "prompt"),
    ({"prompt": "a", "width": 63}, "width"),
    ({"prompt": "a", "num_inference_steps": 0}, "num_inference_steps"),
    ({"prompt": "a", "num_inference_steps": 10**6}, "num_inference_steps"),
    ({"prompt": "a", "num_inference_steps": "20"}, "num_inference_steps"),
    ({"prompt": "a", "num_images": True}, "num_images"),
    ({"prompt": "a", "seed": -1}, "seed"),
    ({"prompt": "a", "guidance_scale": float("nan")}, "guidance_scale"),
    ({"prompt": "a", "guidance_scale": float("inf")}, "guidance_scale"),
    ({"prompt": "a", "metadata": {"x": float("nan")}}, "metadata"),
    ({"prompt": "a", "colour": "red"}, "colour"),
    ({"prompt": "a", "model": "nobody"}, "model"),
    ({"prompt": "a", "webhook": {"url": "http://127.0.0.1/hook"}}, "webhook.url"),
    ({"prompt": "a", "webhook": {"url": "https://169.254.169.254/"}}, "webhook.url"),
    ([], "body"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_wrong_input_is_named_and_leaves_nothing_behind(
    client: httpx.Client, farm: FarmDatabase, body: Any, field: str
) -> None:
    """422 with the field, alone and in a batch of good ones, and no row in any table."""
    assert fields(client.post("/v1/jobs", content=json.dumps(body))) == [field]
    batch = {"jobs": [{"prompt": "good"}, body]}
    (named,) = fields(client.post("/v1/jobs:batch", content=json.dumps(batch)))
    assert named == f"jobs.1.{field}"
    for table in ("jobs", "events", "images", "outbox"):
        assert farm.rows(f"SELECT * FROM {table}") == []  # noqa: S608 - our own names


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs:batch"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"jobs":' * 30_000])
def test_what_is_no_json_is_said_so(client: httpx.Client, path: str, body: bytes) -> None:
    """400 for a body that is not JSON, however deep."""
    problem(client.post(path, content=body), 400, "invalid_json")


def test_a_huge_body_is_not_read(client: httpx.Client) -> None:
    """413 beyond the limit, also when the length is not told beforehand."""
    body = b'{"prompt": "' + b"x" * LIMIT_BYTES
    problem(client.post("/v1/jobs", content=body), 413, "too_large")
    problem(client.post("/v1/jobs", content=iter([body])), 413, "too_large")


def test_a_key_has_a_length(client: httpx.Client) -> None:
    """An Idempotency-Key is neither empty nor endless."""
    for key in ("", "k" * 256):
        response = client.post("/v1/jobs", json={"prompt": "a"}, headers={"Idempotency-Key": key})
        assert fields(response) == ["Idempotency-Key"]


def test_over_quota_says_when_to_come_back(client: httpx.Client, farm: FarmDatabase) -> None:
    """429 with Retry-After; a repeat of what was taken is still answered."""
    farm.execute("UPDATE tenants SET max_queued = 1")
    keyed = {"Idempotency-Key": "k"}
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=keyed).status_code == 202
    response = client.post("/v1/jobs", json={"prompt": "a"})
    problem(response, 429, "over_quota")
    assert int(response.headers["retry-after"]) > 0
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=keyed).status_code == 200


def test_a_repeat_of_a_picture_is_answered_with_it(
    client: httpx.Client, farm: FarmDatabase
) -> None:
    """A fixed seed that was drawn before is answered at once, marked `cached`, with its image."""
    first = submit(client, seed=77)
    farm.finish(farm.claimed(UUID(first["id"])))
    answer = client.post("/v1/jobs", json={"prompt": "a red circle", "seed": 77})
    job = answer.json()
    assert (answer.status_code, job["status"], job["cached"]) == (202, "succeeded", True)
    assert job["id"] != first["id"]
    assert [image["seed"] for image in job["images"]] == [7]
    body = {"jobs": [{"prompt": "a red circle", "seed": 77}]}
    (batched,) = client.post("/v1/jobs:batch", json=body).json()["jobs"]
    assert (batched["cached"], len(batched["images"])) == (True, 1)
    fresh = submit(client, seed=77, cache=False)
    assert (fresh["status"], fresh["cached"]) == ("queued", False)


def test_a_batch_is_taken_in_its_order(client: httpx.Client) -> None:
    """202 with one job for each submission; the same key again brings the same jobs."""
    body = {"jobs": [{"prompt": str(n)} for n in range(20)]}
    keyed = {"Idempotency-Key": "k"}
    first = client.post("/v1/jobs:batch", json=body, headers=keyed)
    assert first.status_code == 202
    jobs = first.json()["jobs"]
    assert [job["request"]["prompt"] for job in jobs] == [str(n) for n in range(20)]
    again = client.post("/v1/jobs:batch", json=body, headers=keyed).json()["jobs"]
    assert [job["id"] for job in again] == [job["id"] for job in jobs]


@pytest.mark.parametrize(
    "body",
    [[], {}, {"jobs": []}, {"jobs": {}}, {"jobs": [{"prompt": "a"}] * 1001},
     {"jobs": [{"prompt": "a"}], "more": 1}],
)  # fmt: skip
def test_a_batch_has_a_form(client: httpx.Client, body: Any) -> None:
    """1 to 1,000 submissions under `jobs` and nothing beside them."""
    assert fields(client.post("/v1/jobs:batch", json=body)) == ["jobs"]
