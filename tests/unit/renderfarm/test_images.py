"""Images: downloading, checking, saving."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import httpx
import PIL.Image
import pytest

from renderfarm import (
    DownloadError,
)
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from renderfarm import Farm


def test_render_gives_a_picture(farm: Farm, fake: FakeFarm, tmp_path: Path) -> None:
    """`render` and `save` write the requested picture to a file."""
    path = farm.render("a red circle", width=64, height=128, seed=7).save(tmp_path / "circle.png")
    assert PIL.Image.open(path).size == (64, 128)
    assert fake.requests == ({"prompt": "a red circle", "width": 64, "height": 128, "seed": 7},)
    assert [each.name for each in tmp_path.iterdir()] == ["circle.png"]


def test_an_image_is_itself_in_every_form(farm: Farm) -> None:
    """`bytes()`, `pil()` and the properties of an image describe the same picture."""
    image = farm.render("a", seed=3)
    opened = image.pil()
    assert opened.tobytes() == PIL.Image.open(io.BytesIO(image.bytes())).tobytes()
    assert opened.size == (image.width, image.height)
    assert (image.seed, image.size_bytes) == (3, len(image.bytes()))


def test_saving_replaces_a_file_whole(farm: Farm, tmp_path: Path) -> None:
    """A new file replaces the old one atomically: an open reader still reads the old one whole."""
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        farm.render("a").save(path)
        assert reader.read() == b"old"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_saving_needs_its_folder(farm: Farm, tmp_path: Path) -> None:
    """The error for a missing folder names it, and the folder is not created."""
    with pytest.raises(FileNotFoundError, match="no folder"):
        farm.render("a").save(tmp_path / "deep" / "a.png")
    assert list(tmp_path.iterdir()) == []


class Storage(httpx.BaseTransport):
    """The fake farm, with storage whose downloads the test decides."""

    def __init__(self, answers: list[httpx.Response]) -> None:
        self.fake = FakeFarm()
        self.answers = answers
        self.downloads: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer downloads from the list, then from the fake farm."""
        if request.url.path.startswith("/files/"):
            self.downloads.append(request)
            if self.answers:
                return self.answers.pop(0)
        return self.fake.handle_request(request)


def test_the_key_stays_with_the_farm(connect: Callable[..., Farm]) -> None:
    """A download carries the URL's signature and never the API key."""
    storage = Storage([])
    connect(storage).render("a").bytes()
    (request,) = storage.downloads
    assert "authorization" not in request.headers
    assert request.url.params["signature"] == "fake"


def test_an_expired_url_is_renewed(connect: Callable[..., Farm]) -> None:
    """An expired presigned URL is renewed by reading the job again."""
    storage = Storage([httpx.Response(403, text="<Error>expired</Error>")])
    assert connect(storage).render("a").bytes().startswith(b"\x89PNG")
    assert len(storage.downloads) == 2


def test_a_redirect_to_the_file_is_followed(connect: Callable[..., Farm]) -> None:
    """Storage may redirect a download, unlike the API."""
    away = httpx.Response(302, headers={"Location": "/files/../files/gone"})
    storage = Storage([away, httpx.Response(200, content=b"not it")])
    assert connect(storage).render("a").bytes().startswith(b"\x89PNG")
    assert storage.downloads[1].url.path == "/files/gone"


def test_a_changed_file_is_not_given(connect: Callable[..., Farm], tmp_path: Path) -> None:
    """Bytes with another SHA-256 are downloaded again, then refused; no file remains."""
    image = connect(Storage([httpx.Response(200, content=b"cut") for _ in range(3)])).render("a")
    with pytest.raises(DownloadError, match="SHA-256"):
        image.save(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
