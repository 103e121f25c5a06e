"""Types: reading the farm's JSON."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from renderfarm.types import FINAL, Job, JobError, Model, Progress, Status

JOB = {
    "id": "0199",
    "status": "succeeded",
    "request": {"prompt": "a red circle", "seed": 7},
    "progress": {"step": 20, "steps": 20},
    "position": None,
    "images": [
        {
            "url": "http://farm/files/a.png",
            "width": 128,
            "height": 64,
            "content_type": "image/png",
            "bytes": 4321,
            "sha256": "ab",
            "seed": 7,
        },
    ],
    "error": None,
    "attempt": 1,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T01:00:00+01:00",
    "finished_at": None,
    "expires_at": None,
    "timings": {"queued_s": 0.01, "render_s": 0.42, "store_s": None},
    "gpu_seconds": 0.31,
    "cost_usd": 0.0,
    "cached": False,
    "metadata": {"order": 5},
}


def test_final_states_are_four() -> None:
    """Exactly four states are final."""
    assert {status for status in Status if status.final} == FINAL
    assert {"succeeded", "failed", "cancelled", "expired"} == FINAL


def test_job_reads_the_contract() -> None:
    """Every field of the contract's job is read, times with their time zone."""
    job = Job.from_json(JOB)
    assert job.status is Status.SUCCEEDED
    assert job.done
    assert job.progress == Progress(20, 20)
    assert (job.images[0].width, job.images[0].height, job.images[0].bytes) == (128, 64, 4321)
    assert job.created_at == job.started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert job.timings.render_s == 0.42
    assert job.metadata == {"order": 5}
    assert job.error is None


def test_unknown_fields_are_left_out() -> None:
    """A newer farm's extra fields, at any depth, do not break an older SDK."""
    newer = JOB | {"mood": 1, "error": {"code": "oom", "message": "m", "hint": "h"}}
    newer["progress"] = {"step": 1, "steps": 2, "eta_s": 3}
    assert Job.from_json(newer).error == JobError("oom", "m")


def test_only_id_and_status_are_needed() -> None:
    """A snapshot with only id and status is a job with empty fields."""
    job = Job.from_json({"id": "1", "status": "queued"})
    assert (job.images, job.request, job.timings.queued_s, job.done) == ((), {}, None, False)


@pytest.mark.parametrize("data", [JOB | {"status": "paused"}, JOB | {"created_at": "soon"}])
def test_nonsense_is_refused(data: dict[str, object]) -> None:
    """An unknown state or an unreadable time raises ValueError."""
    with pytest.raises(ValueError, match=r"paused|soon"):
        Job.from_json(data)


def test_model_reads_its_limits() -> None:
    """A model is read with its limits and schedulers."""
    limits = {
        "min_width": 64,
        "max_width": 512,
        "min_height": 64,
        "max_height": 512,
        "multiple_of": 8,
        "max_steps": 100,
        "max_images": 4,
        "max_prompt_chars": 1000,
        "max_pixels": 1,
    }
    model = Model.from_json({"name": "scenes", "limits": limits, "schedulers": ["euler"]})
    assert (model.limits.multiple_of, model.schedulers, model.defaults) == (8, ("euler",), {})
