"""What storage promises, on every kind of store: the same tests for each."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.storage.objects import IMMUTABLE, ObjectStorage, StorageError
from tests.emulators import gcs
from tests.integration.storage import places
from tests.integration.storage.conftest import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "0199aaaa/0199bbbb/1/0.png"
PNG = "image/png"
IN_PARTS = 12_000_000
"""An object of this size is sent in parts: those have up to 5 MiB."""


def fetched(storage: ObjectStorage, key: str) -> httpx.Response:
    """The object as a browser gets it; skips where no server of the store's own gives it out."""
    url = storage.url(key)
    if "/files/" in url:
        pytest.skip("the farm's own file server gives these out; it has tests of its own")
    return browse(url)


def browse(url: str, method: str = "GET") -> httpx.Response:
    """Get a URL. Those for Google are signed for its own host, wherever they point."""
    headers = {"host": "storage.googleapis.com"} if "X-Goog" in url else {}
    return httpx.request(method, url, headers=headers, trust_env=False)


@pytest.mark.parametrize("size", [1, 4096, 1_000_000, IN_PARTS])
def test_what_was_put_is_there(storage: ObjectStorage, size: int) -> None:
    """Byte for byte, whole or in parts, with the hash that was told."""
    data = os.urandom(size)
    stored = storage.put(KEY, data, PNG)
    assert (stored.bytes, stored.sha256) == (size, sha256(data).hexdigest())
    assert storage.get(KEY) == data


def test_putting_again_replaces(storage: ObjectStorage) -> None:
    """A second attempt's object takes the place of the first's."""
    storage.put(KEY, b"one", PNG)
    storage.put(KEY, b"two", PNG)
    assert storage.get(KEY) == b"two"


def test_deleting_is_repeatable(storage: ObjectStorage) -> None:
    """What is gone can be deleted again, and cannot be read."""
    storage.put(KEY, b"x", PNG)
    storage.delete([KEY, "never/was/1/0.png"])
    storage.delete([KEY])
    with pytest.raises(FileNotFoundError):
        storage.get(KEY)


def test_what_is_old_is_listed(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every object that is old enough, by its key, page by page; none that is younger."""
    monkeypatch.setattr(gcs, "MAX_KEYS", 2)  # the other services answer with up to a thousand
    keys = {f"0199aaaa/listed/1/{n}.png" for n in range(1, 8)}
    for key in keys:
        storage.put(key, b"x", PNG)
    assert keys & {key for some in storage.old_keys(3600.0) for key in some} == set()
    pages = list(storage.old_keys(-2.0, 3))  # the stores tell whole seconds
    assert keys <= {key for page in pages for key in page}
    assert max(map(len, pages)) <= 3
    storage.delete(sorted(keys))
    assert keys & {key for some in storage.old_keys(-2.0) for key in some} == set()


@pytest.mark.parametrize("key", ["a/../../b", "../b", "/a//b", "."])
def test_a_key_never_leaves_its_place(storage: ObjectStorage, key: str) -> None:
    """A key with dots or doubled slashes is no key."""
    with pytest.raises((FileNotFoundError, StorageError)):
        storage.get(key)


@pytest.mark.parametrize("size", [6, IN_PARTS])
def test_a_signed_url_gives_the_object_as_it_should_be_kept(
    storage: ObjectStorage, size: int
) -> None:
    """An object has its type, is cached without limit, and is shown inline under a clear name."""
    data = os.urandom(size)
    storage.delete([KEY])
    storage.put(KEY, data, PNG)
    answer = fetched(storage, KEY)
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == PNG
    assert answer.headers["cache-control"] == IMMUTABLE
    assert answer.headers["content-disposition"] == 'inline; filename="0199bbbb-0.png"'


def test_a_signature_is_for_one_object(storage: ObjectStorage) -> None:
    """The URL of one object does not open another."""
    storage.put(KEY, b"mine", PNG)
    storage.put(KEY.replace("0.png", "1.png"), b"other", PNG)
    url = storage.url(KEY)
    if "/files/" in url or "X-Amz" in url:
        pytest.skip("moto checks no signature, and the file server has tests of its own")
    assert browse(url).content == b"mine"
    other = browse(url.replace("/0.png", "/1.png"))
    assert other.status_code in {401, 403}


def test_a_url_can_be_made_to_last(storage: ObjectStorage) -> None:
    """A tenant's own lifetime goes into the URL."""
    query = parse_qs(urlsplit(storage.url(KEY, 77)).query)
    if lasts := query.get("X-Amz-Expires") or query.get("X-Goog-Expires"):
        assert lasts == ["77"]
    else:
        assert query != parse_qs(urlsplit(storage.url(KEY, 7777)).query)


def test_the_size_alone_may_be_verified(storage_url: str) -> None:
    """With STORAGE_VERIFY=size an upload is checked without reading it back."""
    storage = ObjectStorage(settings_of(storage_url, STORAGE_VERIFY="size"))
    assert storage.put(KEY, b"abc", PNG).bytes == 3


@pytest.mark.parametrize("size", [1, IN_PARTS])
def test_class_and_tags_reach_the_service(storage_url: str, size: int) -> None:
    """Where the service has them: a storage class, and tags with the tenant in them."""
    classes = {"s3": "INTELLIGENT_TIERING", "gs": "NEARLINE", "az": "Cool"}
    scheme = urlsplit(storage_url).scheme
    if scheme not in classes:
        pytest.skip("local files have neither")
    tags = "tenant={tenant},expiry=30 d"
    storage = ObjectStorage(
        settings_of(storage_url, STORAGE_CLASS=classes[scheme], STORAGE_TAGS=tags)
    )
    storage.delete([KEY])
    storage.put(KEY, os.urandom(size), PNG)
    # S3 says it when the object is got; Azure signs a HEAD like a GET.
    answer = browse(storage.url(KEY), "HEAD" if scheme == "az" else "GET")
    headers = ("x-amz-storage-class", "x-goog-storage-class", "x-ms-access-tier")
    assert classes[scheme] in [answer.headers.get(name) for name in headers]
    if scheme != "gs":  # has none for objects
        found = _s3_tags() if scheme == "s3" else places.azure_tags("images", f"some/prefix/{KEY}")
        assert found == {"tenant": "0199aaaa", "expiry": "30 d"}


def _s3_tags() -> dict[str, str]:
    import boto3  # noqa: PLC0415

    client = boto3.session.Session().client("s3")
    found = client.get_object_tagging(Bucket="images", Key=f"some/prefix/{KEY}")["TagSet"]
    return {each["Key"]: each["Value"] for each in found}


def test_front_door_carries_the_blobs_own_signature(storage_url: str) -> None:
    """What the CDN's URL has after its host opens the blob at its origin."""
    if not storage_url.startswith("az:"):
        pytest.skip("Front Door stands before Azure Blob alone")
    door = "https://farm.azurefd.test"
    storage = ObjectStorage(settings_of(storage_url, CDN=f'{{"kind":"frontdoor","url":"{door}"}}'))
    storage.put(KEY, b"pixels", PNG)
    origin = urlsplit(os.environ["AZURE_STORAGE_ENDPOINT"])
    url = storage.url(KEY)
    assert url.startswith(door)
    assert browse(url.replace(door, f"{origin.scheme}://{origin.netloc}")).content == b"pixels"


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Lets the store keep something else than it was given."""
    import obstore  # noqa: PLC0415

    real = obstore.put

    def spoil(kept: bytes) -> None:
        monkeypatch.setattr(
            obstore, "put", lambda store, key, _, **how: real(store, key, kept, **how)
        )

    return spoil


@pytest.mark.parametrize("kept", [b"pix", b"pixelS", b""])
def test_what_was_stored_otherwise_is_said(
    storage: ObjectStorage, spoiled: Callable[[bytes], None], kept: bytes
) -> None:
    """A truncated or altered object is never taken for a stored one."""
    spoiled(kept)
    with pytest.raises(StorageError, match="something else"):
        storage.put(KEY, b"pixels", PNG)
