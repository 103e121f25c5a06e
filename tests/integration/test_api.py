"""The HTTP API as clients see it: a real server on a real socket, with a real Postgres behind it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import uvicorn

from app import log
from app.api.application import create_app
from app.jobs import tenants
from app.jobs import workers as worker_records
from app.jobs.records import Failure
from app.jobs.request import LIMIT_BYTES
from app.local import ports
from app.results.signing import file_url
from app.settings import Settings
from tests.integration.records import COSTS, images
from tests.integration.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.api.context import Context
    from app.local.postgres import Postgres
    from tests.integration.records import Farm

SECRET = "0123456789abcdef"


class Server:
    """The API in a thread of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.app = create_app(settings)
        log.configure()
        config = uvicorn.Config(
            self.app, host="127.0.0.1", port=settings.port, log_config=None, access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def context(self) -> Context:
        """What the routes work with."""
        return self.app.state.context

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API of a farm that serves the null model, with its objects in a folder."""
    port = ports.free()
    settings = Settings.from_environment(
        {
            "RENDERFARM_DATABASE_URL": database_url,
            "RENDERFARM_BROKER_URL": "redis://127.0.0.1:1/0",  # the API needs none
            "RENDERFARM_DIR": str(tmp_path_factory.mktemp("a farm")),
            "RENDERFARM_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "RENDERFARM_PORT": str(port),
            "RENDERFARM_SECRET": SECRET,
            "RENDERFARM_SERVE": "null",
        }
    )
    with Server(settings) as running:
        yield running


@contextlib.contextmanager
def client_of(server: Server, farm: Farm, tenant: tenants.Tenant) -> Iterator[httpx.Client]:
    """A client with a fresh key of the tenant."""
    key = tenants.new_key()
    tenants.add_key(farm.engine, tenant, key, "test")
    headers = {"Authorization": f"Bearer {key}"}
    url = server.settings.public_url
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False) as made:
        yield made


@pytest.fixture
def client(server: Server, farm: Farm) -> Iterator[httpx.Client]:
    """A client of the first tenant."""
    with client_of(server, farm, farm.tenant) as made:
        yield made


@pytest.fixture
def stranger(server: Server, farm: Farm) -> Iterator[httpx.Client]:
    """A client of another tenant."""
    with client_of(server, farm, farm.other) as made:
        yield made


@pytest.fixture
def nobody(server: Server) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=server.settings.public_url, trust_env=False) as made:
        yield made


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer, which must be a problem of that code, in the one form of all problems."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:renderfarm:problem:{code}"
    assert body["title"] == HTTPStatus(status).phrase
    assert body["detail"]
    assert "Traceback" not in response.text
    return body


def fields(response: httpx.Response) -> list[str]:
    """The fields that a 422 names."""
    return [field["field"] for field in problem(response, 422, "invalid_request")["fields"]]


def submit(client: httpx.Client, **request: Any) -> dict[str, Any]:
    """Submit and give the job."""
    response = client.post("/v1/jobs", json={"prompt": "a red circle", **request})
    assert response.status_code == 202, response.text
    return response.json()


# --- who may ask

NOBODYS = UUID("00000000-0000-7000-8000-000000000000")
CALLS = [
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs:batch"),
    ("GET", "/v1/jobs"),
    ("GET", f"/v1/jobs/{NOBODYS}"),
    ("POST", f"/v1/jobs/{NOBODYS}/cancel"),
    ("GET", f"/v1/jobs/{NOBODYS}/events"),
    ("GET", "/v1/models"),
    ("POST", "/v1/uploads"),
    ("GET", "/v1/cdn-cookie"),
    ("POST", "/v1/endpoints"),
    ("GET", "/v1/endpoints"),
    ("PATCH", f"/v1/endpoints/{NOBODYS}"),
    ("DELETE", f"/v1/endpoints/{NOBODYS}"),
    ("GET", f"/v1/endpoints/{NOBODYS}/secret"),
    ("POST", f"/v1/endpoints/{NOBODYS}/rotate"),
    ("GET", "/v1/deliveries"),
    ("POST", f"/v1/deliveries/{NOBODYS}/replay"),
    ("POST", "/v1/deliveries:replay"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer rf_wrong"}, {"Authorization": "Basic YTpi"},
     {"Authorization": "Bearer"}, {"Authorization": "rf_wrong"}],
)  # fmt: skip
def test_no_call_without_a_valid_key(
    nobody: httpx.Client, method: str, path: str, headers: Mapping[str, str]
) -> None:
    """Without a key, or with a wrong one, every call under /v1 says how to send one."""
    response = nobody.request(method, path, headers=headers)
    problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_opens_nothing_from_that_moment(client: httpx.Client, farm: Farm) -> None:
    """A key works until it is revoked and not once after."""
    assert client.get("/v1/jobs").status_code == 200
    (key,) = tenants.list_keys(farm.engine)
    assert tenants.revoke_key(farm.engine, key["id"])
    problem(client.get("/v1/jobs"), 401, "unauthorized")


def test_the_records_hold_no_key(client: httpx.Client, farm: Farm) -> None:
    """A copy of the database opens nothing: it has only the hashes of the keys."""
    key = client.headers["Authorization"].removeprefix("Bearer ")
    (row,) = farm.rows("SELECT * FROM keys")
    assert key not in str(row)
    assert key.encode() not in row["hash"]


def test_anothers_job_does_not_exist(client: httpx.Client, stranger: httpx.Client) -> None:
    """Another tenant's job is answered just like one that never was."""
    job_id, never = submit(client)["id"], str(uuid4())
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        theirs = problem(stranger.request(method, f"/v1/jobs/{job_id}{path}"), 404, "not_found")
        none = problem(stranger.request(method, f"/v1/jobs/{never}{path}"), 404, "not_found")
        assert theirs["detail"].replace(job_id, never) == none["detail"]
    assert stranger.get("/v1/jobs").json()["jobs"] == []
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"


# --- submit


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
    assert "its hash is" in problem(response, 409, "idempotency_conflict")["detail"]
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
    client: httpx.Client, farm: Farm, body: Any, field: str
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


def test_over_quota_says_when_to_come_back(client: httpx.Client, farm: Farm) -> None:
    """429 with Retry-After; a repeat of what was taken is still answered."""
    farm.execute("UPDATE tenants SET max_queued = 1")
    keyed = {"Idempotency-Key": "k"}
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=keyed).status_code == 202
    response = client.post("/v1/jobs", json={"prompt": "a"})
    problem(response, 429, "over_quota")
    assert int(response.headers["retry-after"]) > 0
    assert client.post("/v1/jobs", json={"prompt": "a"}, headers=keyed).status_code == 200


# --- batches


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


# --- look, wait, list


@pytest.mark.parametrize("path", ["nonsense", "1", "%00", "0199-"])
def test_what_cannot_be_a_job_is_not_found(client: httpx.Client, path: str) -> None:
    """404 for a path that is no id."""
    problem(client.get(f"/v1/jobs/{path}"), 404, "not_found")


def test_waiting_ends_when_the_job_does(client: httpx.Client, server: Server, farm: Farm) -> None:
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


def test_a_failed_job_shows_its_error(client: httpx.Client, farm: Farm) -> None:
    """The code and the message that the worker gave."""
    job_id = submit(client)["id"]
    farm.claimed(UUID(job_id))
    farm.store.fail(UUID(job_id), 1, Failure("bad_image", "no picture"), 3)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert job["error"] == {"code": "bad_image", "message": "no picture"}


def test_pages_show_every_job_once_newest_first(client: httpx.Client) -> None:
    """Following the cursor brings each job exactly once, in order, and then ends."""
    made = [submit(client, prompt=str(n))["id"] for n in range(7)]
    seen, cursor = [], ""
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


# --- cancel


def test_cancelling_ends_a_job_once(client: httpx.Client, farm: Farm) -> None:
    """200 with the cancelled job, running or not, and 409 from then on."""
    for running in (False, True):
        job_id = submit(client)["id"]
        if running:
            farm.claimed(UUID(job_id))
        response = client.post(f"/v1/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        again = client.post(f"/v1/jobs/{job_id}/cancel")
        assert "cancelled already" in problem(again, 409, "job_final")["detail"]


# --- events


def told(lines: Iterator[str]) -> tuple[str, dict[str, Any]]:
    """The next event of a stream: its name and its data."""
    name = next(line for line in lines if line.startswith("event: "))
    data = next(lines)
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_events_tell_a_job_s_life_to_its_end(client: httpx.Client, farm: Farm) -> None:
    """The present state first, then each step and state as it comes; the stream ends with the job."""
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


def test_events_of_a_job_under_way_begin_with_its_state(client: httpx.Client, farm: Farm) -> None:
    """Whoever comes late hears the state first, which says how far it is, then what changes."""
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


# --- models, health, metrics


def test_models_are_listed_with_their_limits(client: httpx.Client) -> None:
    """What is served, and what it can draw."""
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["defaults"]["width"]) == ("null", 64)
    assert model["limits"]["multiple_of"] == 8


def test_health_needs_no_key(nobody: httpx.Client, farm: Farm) -> None:
    """The process lives, the records are in reach, and the figures are told."""
    farm.queued()
    worker_records.register(farm.engine, worker_records.Worker("w", "h", 1, "cpu", ("null",), 16))
    assert nobody.get("/healthz").json() == {"status": "ok"}
    assert nobody.get("/readyz").json() == {"status": "ready", "workers": 1}
    metrics = nobody.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'renderfarm_jobs{model="null",status="queued"} 1.0' in metrics.text
    assert "renderfarm_slots 16.0" in metrics.text


def test_requests_are_counted_by_route(client: httpx.Client, nobody: httpx.Client) -> None:
    """A job's id is no label, so the figures stay few."""
    job_id = submit(client)["id"]
    client.get(f"/v1/jobs/{job_id}")
    metrics = nobody.get("/metrics").text
    assert 'method="GET",route="/v1/jobs/{job_id}",status="200"' in metrics
    assert job_id not in metrics


def test_any_other_path_is_a_problem_too(client: httpx.Client) -> None:
    """No route, or the wrong method: the same form of answer."""
    problem(client.get("/v1/nothing"), 404, "not_found")
    problem(client.delete("/v1/jobs"), 405, "method_not_allowed")


# --- files


@pytest.fixture
def picture(client: httpx.Client, server: Server, farm: Farm) -> dict[str, Any]:
    """The image of a succeeded job, as the API tells of it."""
    job_id = UUID(submit(client)["id"])
    claim = farm.claimed(job_id)
    (image,) = images(claim)
    stored = server.context.storage.put(image.key, b"0123456789", "image/png")
    image = replace(image, bytes=stored.bytes, sha256=stored.sha256)
    farm.store.succeed(job_id, 1, [image], COSTS)
    return client.get(f"/v1/jobs/{job_id}").json()["images"][0]


def test_an_image_is_fetched_by_its_url_alone(
    nobody: httpx.Client, picture: dict[str, Any]
) -> None:
    """No key is needed; the answer may be kept for ever, and what it is cannot be mistaken."""
    response = nobody.get(picture["url"])
    assert (response.status_code, response.content) == (200, b"0123456789")
    assert response.headers["content-type"] == "image/png"
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["x-content-type-options"] == "nosniff"
    head = nobody.head(picture["url"])
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == "10"


def test_a_part_of_an_image_can_be_asked_for(nobody: httpx.Client, picture: dict[str, Any]) -> None:
    """Range requests are answered with the part, or with 416 beyond the end."""
    part = nobody.get(picture["url"], headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    assert nobody.get(picture["url"], headers={"Range": "bytes=10-"}).status_code == 416


def test_one_image_keeps_one_url_for_a_while(client: httpx.Client, picture: dict[str, Any]) -> None:
    """Asking again brings the same URL, so caches work."""
    jobs = client.get("/v1/jobs").json()["jobs"]
    assert jobs[0]["images"][0]["url"] == picture["url"]


def test_an_altered_url_opens_nothing(nobody: httpx.Client, picture: dict[str, Any]) -> None:
    """Another key, time or signature, or none, is 403."""
    url = picture["url"]
    expires = url.partition("expires=")[2].partition("&")[0]
    for altered in (
        url.replace("/0.png", "/1.png"),
        url.replace(expires, str(int(expires) + 1)),
        url[:-1],
        url + "A",
        url.partition("&signature")[0],
        url.partition("?")[0],
    ):
        problem(nobody.get(altered), 403, "bad_signature")
    bad = url.replace(expires, "soon")
    assert fields(nobody.get(bad)) == ["expires"]


def test_an_expired_url_opens_nothing(
    nobody: httpx.Client, server: Server, picture: dict[str, Any]
) -> None:
    """Our own signature is worth nothing after its time."""
    key = picture["url"].partition("/files/")[2].partition("?")[0]
    url = file_url(server.settings.public_url, key, int(time.time()) - 1, SECRET)
    problem(nobody.get(url), 403, "bad_signature")


@pytest.mark.parametrize(
    "key", ["../secret", "a/../../secret", "/etc/passwd", "", "a", "nothing.png"]
)
def test_no_key_leads_out_of_the_folder(
    nobody: httpx.Client, server: Server, key: str, picture: dict[str, Any]
) -> None:
    """Even a key that we signed ourselves opens nothing outside of the folder, nor a folder."""
    del picture  # so that there is a folder to leave
    root = Path(unquote(urlsplit(server.settings.storage_url).path))
    (root.parent / "secret").write_text("not for you")
    url = file_url(server.settings.public_url, key, int(time.time()) + 60, SECRET)
    raw = url.replace("/files/" + key, "/files/" + key.replace("/", "%2F").replace(".", "%2E"))
    for tried in (url, raw):
        response = nobody.get(tried)
        assert response.status_code in {403, 404}
        assert "not for you" not in response.text


# --- when things break


@contextlib.contextmanager
def unreachable(postgres: Postgres, database_url: str) -> Iterator[None]:
    """The database throws everyone out and lets nobody in, as one that is shutting down."""
    name = database_url.rpartition("/")[2]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]


def test_while_the_records_are_away_every_call_says_so(
    client: httpx.Client, farm: Farm, postgres: Postgres, database_url: str
) -> None:
    """503 with Retry-After and no inner names; when the records are back, so is the farm."""
    job_id = submit(client)["id"]
    with unreachable(postgres, database_url):
        for method, path in [*CALLS, ("GET", "/readyz")]:
            response = client.request(method, path, json={"prompt": "a"})
            body = problem(response, 503, "unavailable")
            assert response.headers["retry-after"] == "1"
            assert "psycopg" not in json.dumps(body)
        assert client.get("/healthz").status_code == 200
        assert "python_info" in client.get("/metrics").text
        assert "renderfarm_jobs" not in client.get("/metrics").text
    farm.engine.dispose()  # the test's own connections were cut too
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"


def test_waiting_survives_a_break_of_the_notifications(
    client: httpx.Client, server: Server, farm: Farm, database_url: str
) -> None:
    """A lost LISTEN connection delays who waits, and no more."""
    job_id = submit(client)["id"]
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.get, f"/v1/jobs/{job_id}?wait=60")
        until(lambda: job_id in server.context.hub._waiting)
        farm.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = :name AND query = 'LISTEN jobs'""",
            name=database_url.rpartition("/")[2],
        )
        farm.finish(farm.claimed(UUID(job_id)))
        assert answer.result(PATIENCE_S).json()["status"] == "succeeded"


def test_a_bug_shows_no_trace(client: httpx.Client, farm: Farm) -> None:
    """500 as a problem, without a word of what broke."""
    farm.execute("ALTER TABLE events RENAME TO hidden")
    try:
        body = problem(client.post("/v1/jobs", json={"prompt": "a"}), 500, "internal_error")
    finally:
        farm.execute("ALTER TABLE hidden RENAME TO events")
    assert "events" not in json.dumps(body)


def test_a_repeat_of_a_picture_is_answered_with_it(client: httpx.Client, farm: Farm) -> None:
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


def test_usage_is_told_by_group(client: httpx.Client, stranger: httpx.Client, farm: Farm) -> None:
    """What the tenant used, in groups and in all; never another tenant's."""
    farm.finish(farm.claimed(num_images=2))
    today = datetime.now(UTC).date()
    answer = client.get("/v1/usage", params={"by": "model,day"}).json()
    (row,) = answer["rows"]
    assert row == {
        "model": "null", "day": str(today), "jobs": 1, "images": 2, "cached": 0,
        "gpu_seconds": 0.25, "cost_usd": 0.01,
    }  # fmt: skip
    assert answer["total"]["images"] == 2
    assert client.get("/v1/usage", params={"to": str(today)}).json()["total"]["jobs"] == 0
    assert client.get("/v1/usage", params={"from": str(today), "by": ""}).json()["rows"][0]["jobs"]
    assert stranger.get("/v1/usage").json()["total"]["jobs"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("by=colour", "by"),
        ("by=day,day", "by"),
        ("from=yesterday", "from"),
        ("from=2026-02-02&to=2026-02-02", "from"),
    ],
)
def test_a_bad_span_or_group_is_named(client: httpx.Client, query: str, field: str) -> None:
    """Groups that are none, days that are none, and spans that end before they begin."""
    answer = client.get(f"/v1/usage?{query}")
    assert fields(answer) == [field]


def test_too_many_requests_a_second_are_refused(client: httpx.Client, farm: Farm) -> None:
    """Over its rate a tenant is told when to come back, whatever it asks for."""
    farm.execute("UPDATE tenants SET max_requests_per_s = 0.5")
    assert client.get("/v1/models").status_code == HTTPStatus.OK
    answer = client.get("/v1/models")
    problem(answer, 429, "over_quota")
    assert answer.headers["retry-after"] == "2"


def test_a_flood_is_refused_at_the_door(client: httpx.Client, server: Server, farm: Farm) -> None:
    """While too many submissions are handled more are told to come again; reading goes on."""
    crowd = server.app.state.crowd
    crowd.inside += crowd.most
    try:
        for path in ("/v1/jobs", "/v1/jobs:batch"):
            answer = client.post(path, json={"prompt": "a red circle"})
            problem(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "1"
        assert client.get("/v1/jobs").status_code == HTTPStatus.OK
    finally:
        crowd.inside -= crowd.most
    submit(client)
    until(lambda: crowd.inside == 0)
    assert len(farm.rows("SELECT id FROM jobs")) == 1
