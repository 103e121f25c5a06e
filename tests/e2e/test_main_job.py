"""The main job, from the SDK to the picture and back, through every process of the farm."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image

from app.config.repository import REPOSITORY
from app.dispatch import workers
from app.jobs.audit import audit
from renderfarm import JobRequest, errors
from renderfarm.types import ProgressEvent, StateEvent, Status
from tests.e2e.farms import eventually

if TYPE_CHECKING:
    from renderfarm import JobRequest
    from tests.e2e.farms import Up

PROMPT = "a red circle on a blue background"
SMALL: JobRequest = {"prompt": PROMPT, "width": 64, "height": 64}


def denoiser(farm: Up, what: str) -> int:
    """Return the worker's count of the denoiser's `rows` or `forwards`."""
    return sum(w["stats"].get(what, {}).get("denoiser", 0) for w in workers.living(farm.engine()))


def test_a_picture_equals_the_stock_pipelines(farm: Up) -> None:
    """A job's picture equals the stock pipeline's picture of the same seed, within 1 of 255."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        REPOSITORY / "models" / "scenes", dtype=torch.float32, local_files_only=True
    )
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    alone = pipeline(
        PROMPT,
        width=128,
        height=128,
        num_inference_steps=6,
        guidance_scale=4.0,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]
    with farm.sdk() as sdk:
        strangers = sdk.submit_many(
            [{"prompt": f"{n} stars", "num_inference_steps": 5 + n} for n in (1, 2, 3)]
        )
        image = sdk.render(
            PROMPT, width=128, height=128, num_inference_steps=6, guidance_scale=4.0, seed=7
        )
        for job in strangers:
            job.wait(60)
        ours = np.asarray(Image.open(io.BytesIO(image.bytes())).convert("RGB"), dtype=int)
    assert np.abs(ours - np.asarray(alone, dtype=int)).max() <= 1


def test_200_jobs_at_once_share_the_device(farm: Up) -> None:
    """200 jobs that are submitted at once each end once, at over 3 rows per forward pass."""
    rows, forwards = denoiser(farm, "rows"), denoiser(farm, "forwards")
    with farm.sdk() as sdk:
        jobs = sdk.submit_many(
            [{**SMALL, "num_inference_steps": 2 + n % 4, "seed": n} for n in range(200)]
        )
        ended = list(sdk.as_completed(jobs, timeout_s=240))
    assert sorted(job.id for job in ended) == sorted({job.id for job in jobs})
    assert {job.status for job in ended} == {Status.SUCCEEDED}
    eventually(lambda: denoiser(farm, "rows") - rows >= 200 * 2 * 2, 15, "the worker reports")
    mean = (denoiser(farm, "rows") - rows) / (denoiser(farm, "forwards") - forwards)
    assert mean > 3, mean
    assert audit(farm.engine()) == []
    checked = farm.command("audit")
    assert (checked.returncode, checked.stdout.split(" (")[0]) == (0, "0 problems")


def test_progress_is_seen_while_it_renders(farm: Up) -> None:
    """A job's events show its steps in order, and end with its final state."""
    with farm.sdk() as sdk:
        job = sdk.submit(PROMPT, num_inference_steps=60)
        events = list(job.events(timeout_s=120))
    steps = [event.progress.step for event in events if isinstance(event, ProgressEvent)]
    assert steps == sorted(steps)
    assert any(0 < step < 60 for step in steps), steps
    assert isinstance(events[-1], StateEvent)
    assert job.status is Status.SUCCEEDED


def test_a_running_job_is_cancelled(farm: Up) -> None:
    """Cancelling ends a running job at once, without a picture."""
    with farm.sdk() as sdk:
        job = sdk.submit(PROMPT, num_inference_steps=100, num_images=4)
        eventually(lambda: job.refresh().status is Status.RUNNING, 30, "the job runs")
        assert job.cancel().status is Status.CANCELLED
        assert job.images == ()
        ended = sdk.submit(PROMPT, model="null").wait(30)
        with pytest.raises(errors.Conflict):
            sdk.cancel(ended)


def test_flower_shows_every_render(farm: Up) -> None:
    """Flower lists a render's job, model, size and outcome, and requires a password."""
    access = farm.access
    auth = (access["flower_user"], access["flower_password"])
    with farm.sdk() as sdk:
        job = sdk.submit(PROMPT, model="null").wait(30)

    def task() -> dict[str, str] | None:
        tasks = httpx.get(f"{access['flower_url']}/api/tasks", auth=auth).json()
        found: dict[str, str] | None = tasks.get(f"{job.id}.1")
        return found if found and found["state"] == "SUCCESS" else None

    shown = eventually(task, 20, "Flower lists the render")
    assert shown["args"].startswith("null 64x64 1 steps: a red circle")
    assert "succeeded: 1 image" in shown["result"]
    assert httpx.get(access["flower_url"]).status_code == httpx.codes.UNAUTHORIZED


def test_another_tenant_sees_nothing(farm: Up) -> None:
    """Another tenant's key can neither see nor cancel the job."""
    key = farm.command("keys", "create", "other", "--tenant", "other").stdout.strip()
    with farm.sdk() as sdk:
        job = sdk.submit(PROMPT, model="null").wait(30)
    with type(sdk)(farm.access["url"], key) as stranger:
        with pytest.raises(errors.NotFound):
            stranger.job(job.id, appear_s=0)
        with pytest.raises(errors.NotFound):
            stranger.cancel(job.id)
        assert list(stranger.list()) == []
