"""The API in a thread, its clients, and what their tests read off the answers."""

from __future__ import annotations

import contextlib
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import httpx
import pytest
import uvicorn

from app import log
from app.api.application import create_app
from app.config.settings import Settings
from app.local import ports
from app.tenants import keys, tenants
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.api.context import Context
    from tests.integration.records import FarmDatabase

SECRET = "0123456789abcdef"
NOBODYS = UUID("00000000-0000-7000-8000-000000000000")
CALLS = [
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs:batch"),
    ("GET", "/v1/jobs"),
    ("GET", f"/v1/jobs/{NOBODYS}"),
    ("POST", f"/v1/jobs/{NOBODYS}/cancel"),
    ("GET", f"/v1/jobs/{NOBODYS}/events"),
    ("GET", "/v1/models"),
    ("POST", "/v1/uploads"),
    ("GET", "/v1/cdn-cookie"),
    ("POST", "/v1/endpoints"),
    ("GET", "/v1/endpoints"),
    ("PATCH", f"/v1/endpoints/{NOBODYS}"),
    ("DELETE", f"/v1/endpoints/{NOBODYS}"),
    ("GET", f"/v1/endpoints/{NOBODYS}/secret"),
    ("POST", f"/v1/endpoints/{NOBODYS}/rotate"),
    ("GET", "/v1/deliveries"),
    ("POST", f"/v1/deliveries/{NOBODYS}/replay"),
    ("POST", "/v1/deliveries:replay"),
]


class Server:
    """The API in a thread of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.app = create_app(settings)
        log.configure()
        config = uvicorn.Config(
            self.app, host="127.0.0.1", port=settings.port, log_config=None, access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def context(self) -> Context:
        """What the routes work with."""
        return self.app.state.context

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API of a farm that serves the null model, with its objects in a folder."""
    port = ports.free()
    settings = Settings.from_environment(
        {
            "RENDERFARM_DATABASE_URL": database_url,
            "RENDERFARM_BROKER_URL": "redis://127.0.0.1:1/0",  # the API needs none
            "RENDERFARM_DIR": str(tmp_path_factory.mktemp("a farm")),
            "RENDERFARM_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "RENDERFARM_PORT": str(port),
            "RENDERFARM_SECRET": SECRET,
            "RENDERFARM_SERVE": "null",
        }
    )
    with Server(settings) as running:
        yield running


@contextlib.contextmanager
def client_of(server: Server, farm: FarmDatabase, tenant: tenants.Tenant) -> Iterator[httpx.Client]:
    """A client with a fresh key of the tenant."""
    key = keys.new_key()
    keys.add_key(farm.engine, tenant, key, "test")
    headers = {"Authorization": f"Bearer {key}"}
    url = server.settings.public_url
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False) as made:
        yield made


@pytest.fixture
def client(server: Server, farm: FarmDatabase) -> Iterator[httpx.Client]:
    """A client of the first tenant."""
    with client_of(server, farm, farm.tenant) as made:
        yield made


@pytest.fixture
def stranger(server: Server, farm: FarmDatabase) -> Iterator[httpx.Client]:
    """A client of another tenant."""
    with client_of(server, farm, farm.other) as made:
        yield made


@pytest.fixture
def nobody(server: Server) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=server.settings.public_url, trust_env=False) as made:
        yield made


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer, which must be a problem of that code, in the one form of all problems."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:renderfarm:problem:{code}"
    assert body["title"] == HTTPStatus(status).phrase
    assert body["detail"]
    assert "Traceback" not in response.text
    return body


def fields(response: httpx.Response) -> list[str]:
    """The fields that a 422 names."""
    return [field["field"] for field in problem(response, 422, "invalid_request")["fields"]]


def submit(client: httpx.Client, **request: Any) -> dict[str, Any]:
    """Submit and give the job."""
    response = client.post("/v1/jobs", json={"prompt": "a red circle", **request})
    assert response.status_code == 202, response.text
    return response.json()
