"""Fault isolation: a request's fault ends that request; the others keep every bit."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.unit.workers.engine.reference import engine_of, picture, request, run_until_idle
from tests.unit.workers.engine.test_reproducible import assert_same_bytes
from workers.engine.request import BadRequest, Failed

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.request import Outcome, Request
    from workers.pipelines.model import LoadedModel

FAULTS = {
    "not finite": (request("bad", guidance_scale=1e38, reproducible=True), "not_finite"),
    "bad argument": (request("bad", prompt=5, reproducible=True), "render_failed"),
    "raising callback": (request("bad", scheduler="ddim", reproducible=True), "render_failed"),
}


def others() -> list[Request]:
    """Return two jobs that are rendered together with the faulty one."""
    return [
        request("one", reproducible=True, num_inference_steps=6, scheduler="euler"),
        request("two", reproducible=True, seed=3, scheduler="euler_a", num_images=2),
    ]


def render(models: dict[str, LoadedModel], *asked: Request) -> dict[str, Outcome]:
    """Render the requests together."""
    engine = engine_of(models, max_rows=16)
    for one in asked:
        engine.add(one)
    return run_until_idle(engine)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_job_changes_no_bit_of_others(
    fault: str, models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Infinite values, bad arguments and a raising callback affect only their own job."""
    undisturbed = render(models, *others())
    bad, code = FAULTS[fault]
    if fault == "raising callback":

        def stumble(*_: Any, **__: Any) -> None:
            raise KeyError("a callback's own bug")

        monkeypatch.setattr(type(models["sd"].schedulers["ddim"]), "step", stumble)
    outcomes = render(models, *others(), bad)
    ended = outcomes.pop("bad")
    assert isinstance(ended, Failed)
    assert ended.code == code
    for name, outcome in outcomes.items():
        assert_same_bytes(undisturbed[name], outcome)


def decompression_bomb(file: Path) -> Path:
    """Write a PNG of a few bytes whose header claims 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )
    return file


def test_broken_and_huge_pictures_are_refused(
    models: dict[str, LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truncated image and a decompression bomb are bad requests; jobs in flight continue."""
    undisturbed = render(models, *others())
    truncated = tmp_path / "truncated.png"
    picture(1, size=(256, 256)).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:-200])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # so that opening it succeeds
    images = [Image.open(truncated), Image.open(decompression_bomb(tmp_path / "bomb.png"))]
    engine = engine_of(models, max_rows=16)
    for one in others():
        engine.add(one)
    for image in images:
        engine.step()
        with pytest.raises(BadRequest) as refused:
            engine.add(request("bad", image=image, reproducible=True))
        assert refused.value.code == "bad_image"
    outcomes = run_until_idle(engine)
    for name, outcome in outcomes.items():
        assert_same_bytes(undisturbed[name], outcome)
