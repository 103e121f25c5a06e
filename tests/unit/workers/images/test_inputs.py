"""Input pictures: in the request, uploaded, or downloaded."""

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
    """An object store in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, key: str, limit_bytes: int | None = None) -> bytes:
        """Like `Storage.get`."""
        if key not in self.objects:
            raise FileNotFoundError(key)
        if limit_bytes is not None and len(self.objects[key]) > limit_bytes:
            raise TooLarge("the object is too large")
        return self.objects[key]


class Web(ThreadingHTTPServer):
    """A web server with one fixed answer for each path."""

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
    """A server that no request may reach."""
    server = Canary()
    yield server
    assert server.untouched
    server.close()


@pytest.fixture
def web(canary: Canary) -> Iterator[str]:
    """The address of a web server on loopback."""
    with Web(canary.port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def storage() -> MemoryStorage:
    """An empty object store."""
    return MemoryStorage()


def fetch(
    storage: MemoryStorage, text: str, *, allow_private: bool = True, tenant: UUID = TENANT
) -> Image.Image:
    """Load the picture that a request of the tenant names."""
    return Inputs(storage, allow_private, limit_bytes=4096).picture(tenant, text, "image", "RGB")  # type: ignore[arg-type]


def test_each_source_gives_the_picture(storage: MemoryStorage, web: str) -> None:
    """A data URL, an upload and a URL give the same pixels."""
    name = new_name()
    storage.objects[key_of(TENANT, name)] = PNG
    data_url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    for text in (data_url, name, f"{web}/ok.png"):
        assert fetch(storage, text).getpixel((2, 1)) == (7, 7, 7)


def test_another_tenants_upload_does_not_exist(storage: MemoryStorage) -> None:
    """The name of an upload is valid only within its tenant."""
    name = new_name()
    storage.objects[key_of(OTHER, name)] = PNG
    with pytest.raises(RenderFailed, match="nothing was uploaded to"):
        fetch(storage, name)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/page", "not a readable"),
        ("/gone", "404"),
        ("/away", "302"),
        ("/large", "larger than 4096"),
    ],
)
def test_an_unusable_answer_fails_the_job(
    storage: MemoryStorage, web: str, path: str, message: str
) -> None:
    """No picture, a 404, a redirect (not followed) and too large a body are `bad_image`."""
    with pytest.raises(RenderFailed, match=message) as caught:
        fetch(storage, web + path)
    assert caught.value.code == "bad_image"


@pytest.mark.parametrize("path", ["/busy", "/slow-down"])
def test_an_unavailable_server_is_no_fault_of_the_request(
    storage: MemoryStorage, web: str, path: str
) -> None:
    """A 503, a 429 and a refused connection raise `InputUnavailable`, so the job is tried again."""
    with pytest.raises(InputUnavailable):
        fetch(storage, web + path)
    with pytest.raises(InputUnavailable):
        fetch(storage, "http://127.0.0.1:1/x.png")


def test_private_addresses_are_not_fetched(
    storage: MemoryStorage, web: str, canary: Canary
) -> None:
    """The rules of webhooks hold: no http, no private address, neither by number nor by name."""
    port = canary.port
    for url in (f"{web}/ok.png", f"https://127.0.0.1:{port}/x", f"https://[::1]:{port}/x"):
        with pytest.raises(RenderFailed, match="the URL"):
            fetch(storage, url, allow_private=False)


def test_a_bad_upload_fails_the_job(storage: MemoryStorage) -> None:
    """An upload that is too large or no picture is `bad_image`."""
    large, text = new_name(), new_name()
    storage.objects = {key_of(TENANT, large): b"x" * 5000, key_of(TENANT, text): b"hello"}
    for name in (large, text):
        with pytest.raises(RenderFailed) as caught:
            fetch(storage, name)
        assert caught.value.code == "bad_image"


@pytest.mark.parametrize("text", ["uploads/", "uploads/..", "uploads/x", "/uploads/x", "x"])
def test_only_a_uuid_names_an_upload(text: str) -> None:
    """Other texts are refused, so no name leads out of its tenant's folder."""
    assert not is_name(text)
    assert not is_name(f"{new_name()}/../x")
    assert is_name(new_name())


def test_a_mask_has_its_own_mode(storage: MemoryStorage) -> None:
    """A mask from an upload is converted to grey."""
    name, file = new_name(), io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 9)).save(file, "PNG")
    storage.objects[key_of(TENANT, name)] = file.getvalue()
    assert Inputs(storage).picture(TENANT, name, "mask", "L").mode == "L"  # type: ignore[arg-type]
