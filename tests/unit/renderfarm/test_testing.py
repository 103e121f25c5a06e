"""The fake farm follows the HTTP contract, so tests with it are meaningful."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import httpx
import PIL.Image
import pytest

from renderfarm import Farm, InvalidRequest, Status
from renderfarm.request import JobRequest
from renderfarm.testing import FakeFarm
from renderfarm.testing._checks import KINDS
from renderfarm.testing._picture import png

if TYPE_CHECKING:
    from collections.abc import Callable


def test_it_knows_the_fields_of_a_request() -> None:
    """The fake accepts exactly the fields that the SDK types."""
    assert set(KINDS) == set(JobRequest.__annotations__)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": "   "}, "prompt"),
        ({"prompt": "a" * 1_001}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({}, "prompt"),
        ({"prompt": "a", "width": 63}, "width"),
        ({"prompt": "a", "height": 4_096}, "height"),
        ({"prompt": "a", "width": True}, "width"),
        ({"prompt": "a", "width": 64.0}, "width"),
        ({"prompt": "a", "num_inference_steps": 0}, "num_inference_steps"),
        ({"prompt": "a", "num_images": 9}, "num_images"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "model": "none"}, "model"),
        ({"prompt": "a", "colour": "red"}, "colour"),
    ],
)
def test_it_refuses_what_a_farm_refuses(
    connect: Callable[..., Farm],
    fields: dict[str, Any],
    named: str,
) -> None:
    """Each bad field is named with its index in the batch, and no job of the batch is accepted."""
    fake = FakeFarm()
    with pytest.raises(InvalidRequest) as caught:
        connect(fake).submit_many(["good", fields])  # type: ignore[list-item]
    assert {each.field for each in caught.value.fields} == {f"jobs.1.{named}"}
    assert fake.job_ids == ()


def test_it_speaks_http() -> None:
    """Without the SDK it answers 401, 400 and 404 like a farm."""
    with httpx.Client(transport=FakeFarm(), base_url="http://farm.test") as client:
        assert client.get("/v1/models").status_code == 401
        client.headers["Authorization"] = "Bearer rf_x"
        assert client.post("/v1/jobs", content=b"{").json()["code"] == "not_json"
        missing = client.get("/v1/none")
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"


def test_held_jobs_move_when_told(connect: Callable[..., Farm]) -> None:
    """A held job changes its state only when the test advances it."""
    fake = FakeFarm(held=True)
    job = connect(fake).submit("a", num_inference_steps=2)
    seen = []
    while not job.refresh().done:
        seen.append((job.status.value, job.progress.step if job.progress else 0))
        fake.advance(job.id)
    assert seen == [("queued", 0), ("running", 0), ("running", 1), ("running", 2)]
    assert job.status is Status.SUCCEEDED


def test_pictures_are_real() -> None:
    """A picture opens in Pillow with its size and one colour, which depends on prompt and seed."""
    image = PIL.Image.open(io.BytesIO(png(64, 96, "a", 1)))
    image.load()
    assert (image.size, image.mode) == ((64, 96), "RGB")
    assert len(image.getcolors() or []) == 1
    assert len({png(8, 8, prompt, seed) for prompt in "ab" for seed in (1, 2)}) == 4
