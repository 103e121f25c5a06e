"""Images by their signed URLs, from the embedded file server."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import pytest

from app.storage.signing import file_url
from tests.integration.api_server import SECRET, client, fields, nobody, problem, server, submit
from tests.integration.records import COSTS, images

if TYPE_CHECKING:
    import httpx

    from tests.integration.api_server import Server
    from tests.integration.records import FarmDatabase

__all__ = ["client", "nobody", "server"]


@pytest.fixture
def picture(client: httpx.Client, server: Server, farm: FarmDatabase) -> dict[str, Any]:
    """The image of a succeeded job, as the API tells of it."""
    job_id = UUID(submit(client)["id"])
    claim = farm.claimed(job_id)
    (image,) = images(claim)
    stored = server.context.storage.put(image.key, b"0123456789", "image/png")
    image = replace(image, bytes=stored.bytes, sha256=stored.sha256)
    farm.store.succeed(job_id, 1, [image], COSTS)
    return client.get(f"/v1/jobs/{job_id}").json()["images"][0]


def test_an_image_is_fetched_by_its_url_alone(
    nobody: httpx.Client, picture: dict[str, Any]
) -> None:
    """No key is needed; the answer is immutable, and its type is explicit."""
    response = nobody.get(picture["url"])
    assert (response.status_code, response.content) == (200, b"0123456789")
    assert response.headers["content-type"] == "image/png"
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["x-content-type-options"] == "nosniff"
    head = nobody.head(picture["url"])
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == "10"


def test_a_part_of_an_image_can_be_asked_for(nobody: httpx.Client, picture: dict[str, Any]) -> None:
    """Range requests are answered with the part, or with 416 beyond the end."""
    part = nobody.get(picture["url"], headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    assert nobody.get(picture["url"], headers={"Range": "bytes=10-"}).status_code == 416


def test_one_image_keeps_one_url_for_a_while(client: httpx.Client, picture: dict[str, Any]) -> None:
    """Asking again brings the same URL, so caches work."""
    jobs = client.get("/v1/jobs").json()["jobs"]
    assert jobs[0]["images"][0]["url"] == picture["url"]


def test_an_altered_url_opens_nothing(nobody: httpx.Client, picture: dict[str, Any]) -> None:
    """Another key, time or signature, or none, is 403."""
    url = picture["url"]
    expires = url.partition("expires=")[2].partition("&")[0]
    for altered in (
        url.replace("/0.png", "/1.png"),
        url.replace(expires, str(int(expires) + 1)),
        url[:-1],
        url + "A",
        url.partition("&signature")[0],
        url.partition("?")[0],
    ):
        problem(nobody.get(altered), 403, "bad_signature")
    bad = url.replace(expires, "soon")
    assert fields(nobody.get(bad)) == ["expires"]


def test_an_expired_url_opens_nothing(
    nobody: httpx.Client, server: Server, picture: dict[str, Any]
) -> None:
    """Our own signature is worth nothing after its time."""
    key = picture["url"].partition("/files/")[2].partition("?")[0]
    url = file_url(server.settings.public_url, key, int(time.time()) - 1, SECRET)
    problem(nobody.get(url), 403, "bad_signature")


@pytest.mark.parametrize(
    "key", ["../secret", "a/../../secret", "/etc/passwd", "", "a", "nothing.png"]
)
def test_no_key_leads_out_of_the_folder(
    nobody: httpx.Client, server: Server, key: str, picture: dict[str, Any]
) -> None:
    """Even a key that we signed ourselves opens nothing outside of the folder, nor a folder."""
    del picture  # so that there is a folder to leave
    root = Path(unquote(urlsplit(server.settings.storage_url).path))
    (root.parent / "secret").write_text("not for you")
    url = file_url(server.settings.public_url, key, int(time.time()) + 60, SECRET)
    raw = url.replace("/files/" + key, "/files/" + key.replace("/", "%2F").replace(".", "%2E"))
    for tried in (url, raw):
        response = nobody.get(tried)
        assert response.status_code in {403, 404}
        assert "not for you" not in response.text
