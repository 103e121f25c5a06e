"""Where the pictures come from that a request starts with."""

from __future__ import annotations

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from app.errors import TooLarge
from app.storage.uploads import is_name, key_of, new_name
from tests.unit.app.outbound.canary import Canary
from workers.errors import InputUnavailable, RenderFailed
from workers.images.encode import encode
from workers.images.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

TENANT, OTHER = UUID(int=1), UUID(int=2)
PNG = encode(np.full((2, 3, 3), 7, dtype=np.uint8), "png")


class MemoryStorage:
    """A store of a few objects."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, key: str, limit_bytes: int | None = None) -> bytes:
        """As `Storage` has it."""
        if key not in self.objects:
            raise FileNotFoundError(key)
        if limit_bytes is not None and len(self.objects[key]) > limit_bytes:
            raise TooLarge("the object is too large")
        return self.objects[key]


class Web(ThreadingHTTPServer):
    """Gives out what its paths say."""

    def __init__(self, canary_port: int) -> None:
        answers = {
            "/ok.png": (200, {}, PNG),
            "/page": (200, {}, b"<html>"),
            "/gone": (404, {}, b""),
            "/busy": (503, {}, b""),
            "/slow-down": (429, {}, b""),
            "/away": (302, {"Location": f"http://127.0.0.1:{canary_port}/"}, b""),
            "/large": (200, {}, PNG + b"x" * 5000),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = answers[self.path]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def canary() -> Iterator[Canary]:
    """Nobody may come here."""
    bird = Canary()
    yield bird
    assert bird.untouched
    bird.close()


@pytest.fixture
def web(canary: Canary) -> Iterator[str]:
    """A web server on loopback."""
    with Web(canary.port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def shelf() -> MemoryStorage:
    """An empty store."""
    return MemoryStorage()


def fetch(
    shelf: MemoryStorage, text: str, *, allow_private: bool = True, tenant: UUID = TENANT
) -> Image.Image:
    """The picture that a request of the tenant names."""
    return Inputs(shelf, allow_private, limit_bytes=4096).picture(tenant, text, "image", "RGB")  # type: ignore[arg-type]


def test_each_way_gives_the_picture(shelf: MemoryStorage, web: str) -> None:
    """In the request, uploaded before, or by URL: the same pixels."""
    name = new_name()
    shelf.objects[key_of(TENANT, name)] = PNG
    data_url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    for text in (data_url, name, f"{web}/ok.png"):
        assert fetch(shelf, text).getpixel((2, 1)) == (7, 7, 7)


def test_anothers_upload_is_not_there(shelf: MemoryStorage) -> None:
    """An upload is named within its tenant."""
    name = new_name()
    shelf.objects[key_of(OTHER, name)] = PNG
    with pytest.raises(RenderFailed, match="nothing was uploaded to"):
        fetch(shelf, name)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/page", "not a readable"),
        ("/gone", "404"),
        ("/away", "302"),
        ("/large", "larger than 4096"),
    ],
)
def test_what_will_never_do_fails_the_job(
    shelf: MemoryStorage, web: str, path: str, said: str
) -> None:
    """No picture, not there, elsewhere, too large; and a redirect is not followed."""
    with pytest.raises(RenderFailed, match=said) as caught:
        fetch(shelf, web + path)
    assert caught.value.code == "bad_image"


@pytest.mark.parametrize("path", ["/busy", "/slow-down"])
def test_what_may_be_there_later_is_tried_again(shelf: MemoryStorage, web: str, path: str) -> None:
    """A server that is busy or gone for now is not the request's fault."""
    with pytest.raises(InputUnavailable):
        fetch(shelf, web + path)
    with pytest.raises(InputUnavailable):
        fetch(shelf, "http://127.0.0.1:1/x.png")


def test_the_farm_fetches_nothing_from_inside(
    shelf: MemoryStorage, web: str, canary: Canary
) -> None:
    """The rules of webhooks hold: by address, by name, and http not at all."""
    port = canary.port
    for url in (f"{web}/ok.png", f"https://127.0.0.1:{port}/x", f"https://[::1]:{port}/x"):
        with pytest.raises(RenderFailed, match="the URL"):
            fetch(shelf, url, allow_private=False)


def test_an_upload_may_be_too_large_or_no_picture(shelf: MemoryStorage) -> None:
    """Whatever was put there, it is the request's fault and said so."""
    large, text = new_name(), new_name()
    shelf.objects = {key_of(TENANT, large): b"x" * 5000, key_of(TENANT, text): b"hello"}
    for name in (large, text):
        with pytest.raises(RenderFailed) as caught:
            fetch(shelf, name)
        assert caught.value.code == "bad_image"


@pytest.mark.parametrize("text", ["uploads/", "uploads/..", "uploads/x", "/uploads/x", "x"])
def test_only_a_uuid_names_an_upload(text: str) -> None:
    """So no name leads out of its tenant's folder."""
    assert not is_name(text)
    assert not is_name(f"{new_name()}/../x")
    assert is_name(new_name())


def test_a_picture_is_read_whole(shelf: MemoryStorage) -> None:
    """A mask from an upload comes in its own mode."""
    name, file = new_name(), io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 9)).save(file, "PNG")
    shelf.objects[key_of(TENANT, name)] = file.getvalue()
    assert Inputs(shelf).picture(TENANT, name, "mask", "L").mode == "L"  # type: ignore[arg-type]
