"""The fake API: stores the jobs and answers each call of the HTTP contract."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from renderfarm.testing._checks import faults
from renderfarm.testing._job import FakeJob
from renderfarm.types import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULTS: dict[str, Any] = {
    "negative_prompt": "",
    "width": 128,
    "height": 128,
    "num_inference_steps": 20,
    "guidance_scale": 5.0,
    "num_images": 1,
    "scheduler": "dpmpp_2m",
    "output_format": "png",
    "priority": 0,
    "deadline_s": 600,
    "cache": True,
    "metadata": {},
}
LIMITS = {
    "min_width": 64,
    "max_width": 512,
    "min_height": 64,
    "max_height": 512,
    "multiple_of": 8,
    "max_steps": 100,
    "max_images": 8,
    "max_prompt_chars": 1_000,
}


class Refusal(Exception):
    """An error answer of the farm."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"type": "about:blank", "title": code, "status": status, "code": code}
        self.body |= {"detail": detail, **more}
        self.headers = {"Content-Type": "application/problem+json"}

    @property
    def response(self) -> httpx.Response:
        """Return the HTTP answer of this refusal."""
        return httpx.Response(self.status, json=self.body, headers=self.headers)


class FakeApi:
    """Stores the jobs and answers calls. Raises Refusal."""

    def __init__(self, models: Iterable[str], *, held: bool) -> None:
        self.held = held
        self.jobs: dict[str, FakeJob] = {}
        self.requests: list[dict[str, Any]] = []
        self.uploads: dict[str, bytes] = {}
        self.planned_errors: list[dict[str, str]] = []
        self._models = {name: _model(name) for name in models}
        self._keys: dict[str, tuple[bytes, list[str]]] = {}
        self._time = datetime(2026, 1, 1, tzinfo=UTC)
        self._routes = (
            ("POST", "/v1/jobs", self._submit),
            ("POST", "/v1/jobs:batch", self._submit_batch),
            ("GET", "/v1/jobs", self._list),
            ("GET", "/v1/jobs/([^/]+)", self._get),
            ("POST", "/v1/jobs/([^/]+)/cancel", self._cancel),
            ("GET", "/v1/jobs/([^/]+)/events", self._events),
            ("GET", "/v1/models", self._list_models),
            ("GET", r"/files/([^/]+)/(\d+)\.png", self._file),
            ("POST", "/v1/uploads", self._place),
            ("PUT", "/files/(uploads/[^/]+)", self._put),
        )

    def answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        """Answer one call. Raises Refusal."""
        path = request.url.path
        if not path.startswith("/files/") and "authorization" not in request.headers:
            raise Refusal(401, "unauthorized", "send Authorization: Bearer KEY")
        for method, pattern, answer in self._routes:
            found = re.fullmatch(pattern, path)
            if found and request.method == method:
                return answer(request, body, *found.groups())
        raise Refusal(404, "not_found", f"there is no {request.method} {path}")

    def _submit(self, request: httpx.Request, body: bytes) -> httpx.Response:
        status, (job_id,) = self._accept(request, body, [_read(body)])
        return httpx.Response(status, json=self._json(request, job_id))

    def _submit_batch(self, request: httpx.Request, body: bytes) -> httpx.Response:
        bodies = _read(body)["jobs"]
        if not 0 < len(bodies) <= 1_000:
            raise Refusal(422, "invalid_request", "a batch holds 1 to 1,000 jobs")
        status, job_ids = self._accept(request, body, bodies)
        return httpx.Response(status, json={"jobs": [self._json(request, it) for it in job_ids]})

    def _accept(
        self,
        request: httpx.Request,
        body: bytes,
        bodies: list[dict[str, Any]],
    ) -> tuple[int, list[str]]:
        key = request.headers.get("idempotency-key") or str(uuid.uuid4())
        if key in self._keys:
            before, job_ids = self._keys[key]
            if before != body:
                raise Refusal(409, "idempotency_conflict", "this key was used with another request")
            return 200, job_ids
        self._check(bodies)
        job_ids = [self._make(each) for each in bodies]
        self._keys[key] = (body, job_ids)
        return 202, job_ids

    def _check(self, bodies: list[dict[str, Any]]) -> None:
        bad = [
            {"field": name if len(bodies) == 1 else f"jobs.{index}.{name}", "message": message}
            for index, each in enumerate(bodies)
            for name, message in faults(each, self._models).items()
        ]
        if bad:
            raise Refusal(422, "invalid_request", "the request is invalid", fields=bad)

    def _make(self, body: dict[str, Any]) -> str:
        self.requests.append(body)
        number = len(self.requests)
        given = {name: value for name, value in body.items() if value is not None}
        whole = {"model": next(iter(self._models)), "seed": number} | DEFAULTS | given
        job_id = str(uuid.UUID(int=number))
        planned_error = self.planned_errors.pop(0) if self.planned_errors else None
        self.jobs[job_id] = FakeJob(job_id, whole, planned_error, self._now)
        return job_id

    def _get(self, request: httpx.Request, _: bytes, job_id: str) -> httpx.Response:
        job = self._job(job_id)
        if not self.held:
            job.finish() if "wait" in request.url.params else job.advance()
        return httpx.Response(200, json=self._json(request, job_id))

    def _list(self, request: httpx.Request, _: bytes) -> httpx.Response:
        params = request.url.params
        if not self.held:
            for job in self.jobs.values():
                job.advance()
        wanted = [
            job
            for job in reversed(self.jobs.values())
            if params.get("status") in (None, job.status)
            and params.get("model") in (None, job.request["model"])
        ]
        start, limit = int(params.get("cursor", 0)), int(params.get("limit", 50))
        page = [self._json(request, job.id) for job in wanted[start : start + limit]]
        cursor = str(start + limit) if start + limit < len(wanted) else None
        return httpx.Response(200, json={"jobs": page, "cursor": cursor})

    def _cancel(self, request: httpx.Request, _: bytes, job_id: str) -> httpx.Response:
        job = self._job(job_id)
        if job.status.final:
            raise Refusal(409, "job_final", f"the job is {job.status} already")
        job.end(Status.CANCELLED)
        return httpx.Response(200, json=self._json(request, job_id))

    def _events(self, request: httpx.Request, _: bytes, job_id: str) -> httpx.Response:
        job = self._job(job_id)
        events = [("state", job.json(_base(request)))] if self.held else job.events(_base(request))
        text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
        return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})

    def _list_models(self, _: httpx.Request, __: bytes) -> httpx.Response:
        return httpx.Response(200, json={"models": list(self._models.values())})

    def _file(self, _: httpx.Request, __: bytes, job_id: str, index: str) -> httpx.Response:
        content = self._job(job_id).picture(int(index))
        return httpx.Response(200, content=content, headers={"Content-Type": "image/png"})

    def _place(self, request: httpx.Request, _: bytes) -> httpx.Response:
        key = f"uploads/{uuid.uuid4()}"
        place = {"key": key, "url": f"{_base(request)}/files/{key}", "method": "PUT", "headers": {}}
        return httpx.Response(201, json=place)

    def _put(self, _: httpx.Request, body: bytes, key: str) -> httpx.Response:
        self.uploads[key] = body
        return httpx.Response(204)

    def _job(self, job_id: str) -> FakeJob:
        if job_id not in self.jobs:
            raise Refusal(404, "not_found", f"there is no job {job_id}")
        return self.jobs[job_id]

    def _json(self, request: httpx.Request, job_id: str) -> dict[str, Any]:
        return self._job(job_id).json(_base(request))

    def _now(self) -> datetime:
        self._time += timedelta(seconds=1)
        return self._time


def _model(name: str) -> dict[str, Any]:
    about = {"name": name, "description": "a fake", "pipeline": "none", "revision": "fake"}
    return about | {"defaults": DEFAULTS, "limits": LIMITS, "schedulers": ["dpmpp_2m", "euler"]}


def _base(request: httpx.Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}"


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise Refusal(400, "not_json", str(error)) from error
