"""The public JSON of a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app.jobs import present
from renderfarm.types import Job

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
IMAGE = {
    "job_id": UUID(int=1),
    "n": 0,
    "key": "t/j/1/0.png",
    "width": 8,
    "height": 8,
    "content_type": "image/png",
    "bytes": 3,
    "sha256": "ab",
    "seed": 7,
}


def row(**changes: Any) -> dict[str, Any]:
    """The row of a succeeded job."""
    return {
        "id": UUID(int=1), "status": "succeeded", "request": {"prompt": "x", "metadata": {"a": 1}},
        "step": 20, "steps": 20, "error": None, "attempt": 2, "created_at": AT,
        "started_at": AT + timedelta(seconds=2), "finished_at": AT + timedelta(seconds=5),
        "deadline_at": AT + timedelta(seconds=600), "render_s": 2.5, "store_s": 0.1,
        "gpu_seconds": 0.3, "cost_usd": 0.0, "cached": False, **changes,
    }  # fmt: skip


def test_a_job_has_the_contracts_fields() -> None:
    """The JSON has exactly the fields of the HTTP contract, and the SDK can read it."""
    shown = present.job(row(), [IMAGE], "https://cdn.test/{}".format)
    assert list(shown) == [
        "id", "status", "request", "progress", "position", "images", "error", "attempt",
        "created_at", "started_at", "finished_at", "expires_at", "timings", "gpu_seconds",
        "cost_usd", "cached", "metadata",
    ]  # fmt: skip
    assert list(shown["images"][0]) == [
        "url", "width", "height", "content_type", "bytes", "sha256", "seed",
    ]  # fmt: skip
    assert shown["timings"] == {"queued_s": 2.0, "render_s": 2.5, "store_s": 0.1}
    assert shown["metadata"] == {"a": 1}
    job = Job.from_json(shown)
    assert (job.images[0].url, job.attempt) == ("https://cdn.test/t/j/1/0.png", 2)


def test_an_error_shows_only_once_the_job_has_failed() -> None:
    """The error of an attempt that will be retried does not show."""
    error = {"code": "storage_unavailable", "message": "no"}
    assert present.job(row(status="queued", error=error), [], None)["error"] is None
    assert present.job(row(status="failed", error=error), [], None)["error"] == error


def test_a_queued_job_has_no_times_yet() -> None:
    """The times of events that have not happened are null."""
    waiting = row(status="queued", started_at=None, finished_at=None, render_s=None)
    shown = present.job(waiting, [], None, position=3)
    assert (shown["started_at"], shown["finished_at"], shown["timings"]["queued_s"]) == (
        None,
        None,
        None,
    )
    assert shown["position"] == 3


def test_a_webhooks_keys_become_urls() -> None:
    """A delivery replaces each object key of the stored payload by a signed URL."""
    payload: dict[str, Any] = {
        "type": "job.succeeded",
        "data": present.job(row(), [IMAGE], None),
    }
    assert payload["data"]["images"][0]["key"] == "t/j/1/0.png"
    sent = present.with_urls(payload, "https://cdn.test/{}".format)
    assert sent["data"] == present.job(row(), [IMAGE], "https://cdn.test/{}".format)
    assert payload["data"]["images"][0]["key"] == "t/j/1/0.png"


def test_a_webhook_of_an_endpoint_has_no_images() -> None:
    """The payload of an endpoint's event is unchanged, because it has no images."""
    payload = {"type": "endpoint.disabled", "data": {"id": "1", "reason": "gone"}}
    assert present.with_urls(payload, "https://cdn.test/{}".format) == payload
