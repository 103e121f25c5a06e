"""Each kind of store once per run, and a farm's storage on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from app.config.settings import Settings
from app.storage.objects import ObjectStorage
from tests.integration.storage import places

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "0123456789abcdef"


def settings_of(storage_url: str, **more: str) -> Settings:
    """A farm's settings with this store."""
    variables = {
        "DATABASE_URL": "postgresql://unused/farm",
        "BROKER_URL": "redis://unused/0",
        "SECRET": SECRET,
        "STORAGE_URL": storage_url,
        **more,
    }
    return Settings.from_environment({f"RENDERFARM_{k}": v for k, v in variables.items()})


@pytest.fixture(params=["file", "s3", "gs", "az"], scope="module")
def storage_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a store of each kind, whose credentials are in the environment meanwhile."""
    path = tmp_path_factory.mktemp(request.param)
    place: Any = {
        "file": lambda: places.folder(path),
        "s3": places.s3,
        "gs": lambda: places.gs(path),
        "az": lambda: places.az(path),
    }[request.param]
    with place() as url:
        yield url


@pytest.fixture
def storage(storage_url: str) -> ObjectStorage:
    """A farm's storage there."""
    return ObjectStorage(settings_of(storage_url))
