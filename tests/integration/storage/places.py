"""Stores to test against: a folder, and servers on loopback that speak the services' protocols."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from app.config.repository import REPOSITORY
from app.local import ports
from tests.emulators.gcs import Gcs
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

REGION = "eu-central-1"
NEWLINES = "\n" * 12
AZURITE = shutil.which("azurite-blob") or str(
    REPOSITORY / ".azurite/node_modules/.bin/azurite-blob"
)
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""Azurite's published account, the same for every user."""


@contextmanager
def folder(path: Path) -> Iterator[str]:
    """Local files."""
    yield f"{path.as_uri()}/objects"


@contextmanager
def s3() -> Iterator[str]:
    """Moto's server with a bucket."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.post(f"http://{host}:{port}/moto-api/reset", trust_env=False)  # one for the process
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        client = boto3.session.Session().client("s3", region_name=REGION)
        client.create_bucket(
            Bucket="images", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield "s3://images/some/prefix"
        client.close()
    server.stop()


@contextmanager
def gs(path: Path) -> Iterator[str]:
    """Our own emulator, with a key of its making."""
    with Gcs() as server, pytest.MonkeyPatch.context() as environment:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        key = path / "key.json"
        key.write_text(server.service_account())
        environment.setenv("STORAGE_EMULATOR_HOST", server.url)
        environment.setenv("GOOGLE_SERVICE_ACCOUNT", str(key))
        yield "gs://images/some/prefix"
        server.shutdown()


@contextmanager
def az(path: Path) -> Iterator[str]:
    """Azurite with a container; skips where it is not installed."""
    if not Path(AZURITE).exists():
        pytest.skip("Azurite is not installed: make azurite")
    port = ports.free()
    endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    command = [AZURITE, "--inMemoryPersistence", "--silent", "--blobPort", str(port)]
    log = path / "azurite.log"
    with log.open("wb") as output, pytest.MonkeyPatch.context() as environment:
        process = subprocess.Popen(command, cwd=path, stdout=output, stderr=output)
        environment.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
        environment.setenv("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT)
        environment.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)
        try:
            until(lambda: process.poll() is not None or not ports.is_free(port))
            _make_container(endpoint, "images")
            yield "az://images/some/prefix"
        finally:
            process.kill()
            process.wait()


def _make_container(endpoint: str, name: str) -> None:
    answer = _azure("PUT", endpoint, name, "restype", "container")
    assert answer.status_code == 201, answer.text


def azure_tags(container: str, blob: str) -> dict[str, str]:
    """The tags that a blob has, as Azure says them."""
    endpoint = os.environ["AZURE_STORAGE_ENDPOINT"]
    answer = _azure("GET", endpoint, f"{container}/{blob}", "comp", "tags")
    assert answer.status_code == 200, answer.text
    return dict(re.findall("<Key>(.*?)</Key><Value>(.*?)</Value>", answer.text))


def _azure(method: str, endpoint: str, path: str, name: str, value: str) -> httpx.Response:
    """A request with one parameter and no body, signed by Shared Key.

    See https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key.
    """
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{path}\n{name}:{value}"
    signed = f"{method}{NEWLINES}x-ms-date:{now}\nx-ms-version:2021-08-06\n{resource}"
    digest = hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256)
    headers = {
        "x-ms-date": now,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    url = f"{endpoint}/{path}?{name}={value}"
    return httpx.request(method, url, headers=headers, trust_env=False)
