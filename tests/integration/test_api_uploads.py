"""Uploads, and the embedded file server that takes and gives them out."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from app.ids import new_id
from app.storage import uploads
from app.storage.signing import file_url
from tests.integration.api_server import SECRET, client, fields, nobody, problem, server

if TYPE_CHECKING:
    import httpx

    from tests.integration.api_server import Server
    from tests.integration.records import FarmDatabase

__all__ = ["client", "nobody", "server"]


def placed(client: httpx.Client) -> dict[str, Any]:
    """A place for an upload."""
    answer = client.post("/v1/uploads")
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_upload_is_put_and_can_be_named(
    client: httpx.Client, nobody: httpx.Client, server: Server, farm: FarmDatabase
) -> None:
    """The URL alone opens its place for writing; the key is good as a request's image."""
    place = placed(client)
    assert nobody.put(place["url"], content=b"pixels", headers=place["headers"]).status_code == 204
    key = uploads.key_of(farm.tenant.id, place["key"])
    assert server.context.storage.get(key) == b"pixels"
    request = {"prompt": "x", "image": place["key"], "strength": 0.5}
    answer = client.post("/v1/jobs", json=request)
    assert answer.status_code in {202, 422}
    if answer.status_code == 422:  # the null model starts from no picture: but the name is fine
        assert "image" not in fields(answer)


@pytest.mark.parametrize(
    "image", ["uploads/../x", "uploads/1", "ftp://x/y.png", "https://10.0.0.1/x.png", "x", "data:text/plain,x"]
)  # fmt: skip
def test_what_names_no_picture_is_refused(client: httpx.Client, image: str) -> None:
    """At once, and by the field."""
    answer = client.post("/v1/jobs", json={"prompt": "x", "image": image, "strength": 0.5})
    assert "image" in fields(answer)


@pytest.mark.parametrize("field", ["image", "mask", "control_image"])
def test_an_upload_that_is_kept_no_longer_is_refused(client: httpx.Client, field: str) -> None:
    """At once and by the field, since it may be gone before the job gets its turn."""
    until = datetime.fromisoformat(placed(client)["kept_until"])
    day = until - datetime.now(UTC)
    assert timedelta(hours=23) < day <= timedelta(days=1)
    old = f"uploads/{new_id(int((time.time() - day.total_seconds() - 60) * 1000))}"
    answer = client.post("/v1/jobs", json={"prompt": "x", "strength": 0.5, field: old})
    assert (answer.status_code, list(fields(answer))) == (422, [field])
    assert "has expired" in answer.text
    young = f"uploads/{new_id(int((time.time() - day.total_seconds() + 600) * 1000))}"
    answer = client.post("/v1/jobs", json={"prompt": "x", "strength": 0.5, field: young})
    assert "has expired" not in answer.text


def test_a_repeat_is_not_asked_whether_its_upload_is_kept(client: httpx.Client) -> None:
    """What was accepted under a key is answered under it for as long as the job is kept."""
    headers = {"Idempotency-Key": "one"}
    assert client.post("/v1/jobs", json={"prompt": "x"}, headers=headers).status_code == 202
    old = {"prompt": "x", "strength": 0.5, "image": f"uploads/{new_id(0)}"}
    assert "has expired" not in client.post("/v1/jobs", json=old, headers=headers).text
    headers = {"Idempotency-Key": "another"}
    assert "has expired" in client.post("/v1/jobs", json=old, headers=headers).text


def test_a_url_for_reading_writes_nothing(client: httpx.Client, nobody: httpx.Client) -> None:
    """And one for writing reads nothing; both only for their own key and as they were signed."""
    place = placed(client)
    url = urlsplit(place["url"])
    assert nobody.put(place["url"], content=b"x").status_code == 204
    key = url.path.removeprefix("/files/")
    reading = file_url("", key, 2_000_000_000, SECRET)
    assert nobody.get(reading).content == b"x"
    problem(nobody.put(reading, content=b"y"), 403, "bad_signature")
    problem(nobody.get(place["url"]), 403, "bad_signature")
    other = place["url"].replace(key[-4:], "0000")
    problem(nobody.put(other, content=b"y"), 403, "bad_signature")
    assert nobody.get(reading).content == b"x"


def test_an_upload_has_a_limit(
    client: httpx.Client, nobody: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than is allowed is read no further, and nothing is kept of it."""
    monkeypatch.setattr("app.api.files.LIMIT_UPLOAD_BYTES", 10)
    place = placed(client)
    problem(nobody.put(place["url"], content=b"x" * 11), 413, "too_large")


def test_who_has_an_image_is_not_sent_it_again(server: Server, nobody: httpx.Client) -> None:
    """ETag, 304, ranges and HEAD work; the object is immutable."""
    data = bytes(range(256))
    server.context.storage.put("t/j/1/0.png", data, "image/png")
    url = file_url("", "t/j/1/0.png", 2_000_000_000, SECRET)
    whole = nobody.get(url)
    etag = whole.headers["etag"]
    assert (whole.status_code, whole.content) == (200, data)
    assert "immutable" in whole.headers["cache-control"]
    for header in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = nobody.get(url, headers={"If-None-Match": header})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert "immutable" in again.headers["cache-control"]
    assert nobody.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    part = nobody.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])
    assert nobody.get(url, headers={"Range": "bytes=999-"}).status_code == 416
    head = nobody.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, "256")
    server.context.storage.put("t/j/1/0.png", data[::-1] + b"x", "image/png")
    assert nobody.get(url, headers={"If-None-Match": etag}).status_code == 200
    assert hashlib.sha256(whole.content).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../farm.json", "t/../../farm.json", "t/j", "/etc/passwd", "t/j/1/0.png/",
            "t//j/1/0.png/../../../../../farm.json"],
)  # fmt: skip
def test_no_path_leads_out_or_lists_a_folder(server: Server, key: str) -> None:
    """Even signed by us: a folder is not listed, and nothing above the objects is given out."""
    server.context.storage.put("t/j/1/0.png", b"x", "image/png")
    connection = HTTPConnection("127.0.0.1", server.settings.port)
    connection.request("GET", file_url("", key, 2_000_000_000, SECRET))  # as it is, dots and all
    answer = connection.getresponse()
    assert answer.status == 404, answer.read()
    connection.close()
