"""The caching edge, `deploy/nginx/edge.conf`, in a real nginx in front of a checking store."""

from __future__ import annotations

import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.local import ports

if TYPE_CHECKING:
    from collections.abc import Iterator

CONF = Path(__file__).parents[2] / "deploy" / "nginx" / "edge.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
IMAGE = bytes(range(256)) * 40
PATH = "/images/tenant/job/1/0.png"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


class Store(ThreadingHTTPServer):
    """A store with one image, for URLs whose signature is in `good`. Counts whole deliveries."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.good = {"one", "two"}
        self.hosts: set[str] = set()
        self.delivered = 0


class Handler(BaseHTTPRequestHandler):
    """Answers as S3 does: 403 for a bad signature, 206 for a range."""

    server: Store

    def do_GET(self) -> None:
        """One image, whole or its first byte."""
        url = urlsplit(self.path)
        self.server.hosts.add(self.headers["Host"])
        if parse_qs(url.query).get("signature", [""])[0] not in self.server.good:
            return self._answer(403, b"")
        if url.path != PATH:
            return self._answer(404, b"")
        if self.headers["Range"] == "bytes=0-0":
            return self._answer(206, IMAGE[:1])
        self.server.delivered += 1
        return self._answer(200, IMAGE)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "public, max-age=31536000, immutable")
        self.send_header("ETag", '"abc"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _store() -> Iterator[Store]:
    with Store() as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        yield store
        store.shutdown()


@pytest.fixture
def store() -> Iterator[Store]:
    """The store behind the edge."""
    with _store() as store:
        yield store


@pytest.fixture
def edge(tmp_path: Path, store: Store) -> Iterator[httpx.Client]:
    """A client of the edge; nginx runs as the test's user."""
    port = ports.free()
    conf = tmp_path / "nginx.conf"
    conf.write_text(_main(tmp_path, _placed(tmp_path, port, store.server_port)))
    subprocess.run([NGINX or "", "-c", conf, "-p", tmp_path], check=True, capture_output=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        subprocess.run([NGINX or "", "-c", conf, "-p", tmp_path, "-s", "stop"], check=True)


def _placed(directory: Path, port: int, store_port: int) -> str:
    """The shipped configuration, with this test's places; each must be in it."""
    text = CONF.read_text()
    for shipped, ours in (
        ("/var/cache/nginx/images", f"{directory}/images"),
        ("/var/log/nginx/access.log", f"{directory}/access.log"),
        ("server store:7070", f"server 127.0.0.1:{store_port}"),
        ("listen 8080", f"listen 127.0.0.1:{port}"),
    ):
        assert shipped in text
        text = text.replace(shipped, ours)
    return text


def _main(directory: Path, edge: str) -> str:
    """What the image's own nginx.conf gives: a process, a pid file, places for temporary files."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    owner = "user root;\n" if directory.owner() == "root" else ""
    return (
        f"{owner}worker_processes 1;\npid {directory}/nginx.pid;\n"
        f"error_log {directory}/error.log;\nevents {{}}\nhttp {{\n{places}{edge}\n}}\n"
    )


def test_one_copy_serves_every_signed_url(edge: httpx.Client, store: Store) -> None:
    """An image is fetched from the store once, whichever good signature it is asked for with."""
    answers = [edge.get(PATH, params={"signature": name}) for name in ("one", "two", "one")]
    assert [answer.content for answer in answers] == [IMAGE] * 3
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS", "HIT", "HIT"]
    assert store.delivered == 1


def test_the_store_judges_every_url(edge: httpx.Client, store: Store) -> None:
    """A URL that is forged or has expired is refused even while the image is cached."""
    assert edge.get(PATH, params={"signature": "one"}).status_code == 200
    store.good.remove("one")
    for signature in ("one", "forged", ""):
        answer = edge.get(PATH, params={"signature": signature})
        assert (answer.status_code, IMAGE in answer.content) == (403, False)


def test_signatures_survive_the_edge(edge: httpx.Client, store: Store) -> None:
    """The store sees the host that the client wrote, which the signature covers."""
    edge.get(PATH, params={"signature": "one"})
    assert store.hosts == {str(edge.base_url.netloc, "ascii")}


@pytest.mark.parametrize("before", [True, False], ids=["cached", "first"])
def test_ranges_come_from_the_copy(edge: httpx.Client, store: Store, before: bool) -> None:  # noqa: FBT001
    """A part of an image is answered with 206, and the whole is fetched and kept."""
    if before:
        edge.get(PATH, params={"signature": "one"})
    answer = edge.get(PATH, params={"signature": "one"}, headers={"Range": "bytes=10-19"})
    assert (answer.status_code, answer.content) == (206, IMAGE[10:20])
    assert edge.get(PATH, params={"signature": "two"}).content == IMAGE
    assert store.delivered == 1


def test_head_and_revalidation(edge: httpx.Client) -> None:
    """HEAD tells the size without a body; a client that has the image gets 304."""
    head = edge.head(PATH, params={"signature": "one"})
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(IMAGE)))
    assert "immutable" in head.headers["Cache-Control"]
    again = edge.get(PATH, params={"signature": "one"}, headers={"If-None-Match": '"abc"'})
    assert (again.status_code, again.content) == (304, b"")


def test_nothing_else_passes(edge: httpx.Client, store: Store) -> None:
    """Writing, listing the bucket and images that are not there are all refused."""
    good = {"signature": "one"}
    assert edge.put(PATH, params=good, content=b"x").status_code == 403
    assert edge.get("/images", params={"list-type": "2", **good}).status_code == 404
    assert edge.get("/images/tenant/job/1/9.png", params=good).status_code == 403
    assert (store.delivered, edge.get("/edge-health").status_code) == (0, 204)


def test_the_log_holds_no_signature(edge: httpx.Client, tmp_path: Path) -> None:
    """The access log names the path and the outcome, never the query that opens the image."""
    edge.get(PATH, params={"signature": "one"})
    edge.get("/edge-health")  # on the same connection, so the line before it is written
    log = (tmp_path / "access.log").read_text()
    assert PATH in log
    assert "cache=MISS" in log
    assert "signature" not in log
