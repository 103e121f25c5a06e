"""A request's fault ends that request: its mates keep every bit of their pictures."""

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


def mates() -> list[Request]:
    """Two jobs that share the bad one's forwards."""
    return [
        request("one", reproducible=True, num_inference_steps=6, scheduler="euler"),
        request("two", reproducible=True, seed=3, scheduler="euler_a", num_images=2),
    ]


def render(models: dict[str, LoadedModel], *asked: Request) -> dict[str, Outcome]:
    """Render them together."""
    engine = engine_of(models, max_rows=16)
    for one in asked:
        engine.add(one)
    return run_until_idle(engine)


@pytest.mark.parametrize("fault", FAULTS)
def test_mates_of_a_faulty_job_keep_their_bits(
    fault: str, models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that are not finite, bad arguments and a callback that raises stay with their job."""
    undisturbed = render(models, *mates())
    bad, code = FAULTS[fault]
    if fault == "raising callback":
        calls: list[int] = []

        def stumble(*_: Any, **__: Any) -> None:
            calls.append(1)
            raise KeyError("a callback's own bug")

        monkeypatch.setattr(type(models["sd"].schedulers["ddim"]), "step", stumble)
    outcomes = render(models, *mates(), bad)
    ended = outcomes.pop("bad")
    assert isinstance(ended, Failed)
    assert ended.code == code
    for name, outcome in outcomes.items():
        assert_same_bytes(undisturbed[name], outcome)


def bomb(file: Path) -> Path:
    """Write a PNG of a few bytes whose header says 60000 x 60000."""

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


def test_broken_and_bloated_pictures_are_refused_at_the_door(
    models: dict[str, LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corrupt init image and a decompression bomb are bad requests; those in flight go on."""
    undisturbed = render(models, *mates())
    cut = tmp_path / "cut.png"
    picture(1, size=(256, 256)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-200])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # so that it opens, and bursts later
    images = [Image.open(cut), Image.open(bomb(tmp_path / "bomb.png"))]
    engine = engine_of(models, max_rows=16)
    for one in mates():
        engine.add(one)
    for image in images:
        engine.step()
        with pytest.raises(BadRequest) as refused:
            engine.add(request("bad", image=image, reproducible=True))
        assert refused.value.code == "bad_image"
    outcomes = run_until_idle(engine)
    for name, outcome in outcomes.items():
        assert_same_bytes(undisturbed[name], outcome)
