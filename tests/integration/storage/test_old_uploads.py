"""Uploads that nobody may name any more are collected from every kind of store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from app.dispatch import janitor
from app.dispatch.janitor import Janitor
from app.ids import new_id
from app.storage import uploads
from app.storage.objects import ObjectStorage
from tests.integration.storage.conftest import settings_of

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.records import FarmDatabase

KEPT_S = 7200.0
AT_ONCE_S = -2.0
"""No object is too young to be looked at. The stores tell whole seconds."""


class House:
    """A janitor of a store, which holds uploads that tenants have put there."""

    def __init__(self, farm: FarmDatabase, storage_url: str) -> None:
        settings = settings_of(storage_url, KEEP_UPLOADS_S=str(KEPT_S))
        self.farm = farm
        self.storage = ObjectStorage(settings)
        self.janitor = Janitor(
            store=farm.store, engine=farm.engine, storage=self.storage, settings=settings
        )

    def put(self, age_s: float, tenant_id: UUID | None = None) -> str:
        """An upload whose place was made so long ago; its name."""
        name = f"{uploads.FOLDER}{new_id(int((time.time() - age_s) * 1000))}"
        self.storage.put(self.key(name, tenant_id), b"pixels", "image/png")
        return name

    def key(self, name: str, tenant_id: UUID | None = None) -> str:
        """Where an upload lies."""
        return uploads.key_of(tenant_id or self.farm.tenant.id, name)

    def has(self, name: str, tenant_id: UUID | None = None) -> bool:
        """Whether an upload is in the store."""
        try:
            return self.storage.get(self.key(name, tenant_id)) == b"pixels"
        except FileNotFoundError:
            return False


@pytest.fixture
def house(farm: FarmDatabase, storage_url: str) -> House:
    """A house at each kind of store."""
    return House(farm, storage_url)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the sweep look at objects that were put just now."""
    monkeypatch.setattr(janitor, "MIN_AGE_S", AT_ONCE_S)


@pytest.mark.usefixtures("at_once")
def test_old_uploads_go_and_younger_ones_stay(house: House) -> None:
    """One that may still be named is left, and so is what only looks like an upload."""
    old, young = house.put(KEPT_S + 60), house.put(KEPT_S - 60)
    alien = f"{uploads.FOLDER}{new_id(0)}"
    house.storage.put(f"backups/{alien}", b"not ours", "text/plain")
    assert house.janitor.sweep() == 1
    assert not house.has(old)
    assert house.has(young)
    assert house.storage.get(f"backups/{alien}") == b"not ours"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("field", ["image", "mask", "control_image"])
def test_what_an_open_job_needs_stays(house: House, farm: FarmDatabase, field: str) -> None:
    """Whichever field names it, while its job waits and while it runs, and no longer."""
    name = house.put(KEPT_S + 60)
    job_id = farm.queued(**{field: name})
    assert house.janitor.sweep() == 0
    claim = farm.claimed(job_id)
    assert house.janitor.sweep() == 0
    assert house.has(name)
    farm.finish(claim)
    assert house.janitor.sweep() == 1
    assert not house.has(name)


@pytest.mark.usefixtures("at_once")
def test_only_the_tenants_own_job_keeps_it(house: House, farm: FarmDatabase) -> None:
    """A job of another tenant that names the same upload means one of its own."""
    name = house.put(KEPT_S + 60)
    farm.insert(farm.new(tenant=farm.other, image=name))
    assert house.janitor.sweep() == 1
    assert not house.has(name)


def test_what_was_put_just_now_is_not_looked_at(house: House) -> None:
    """However old its name."""
    name = house.put(KEPT_S + 86_400)
    assert house.janitor.sweep() == 0
    assert house.has(name)


@pytest.mark.parametrize(
    "key",
    [
        "uploads/x",
        "{a}/uploads/x",
        "{a}/{b}",
        "{a}/uploads/{b}/0.png",
        "x/uploads/{b}",
        "{a}/1/{b}",
    ],
)
def test_what_is_no_upload_is_not_taken_for_one(key: str) -> None:
    """Other keys of the store name none."""
    assert uploads.name_of(key.format(a=uuid4(), b=new_id())) is None
    name = uploads.new_name()
    assert uploads.name_of(uploads.key_of(uuid4(), name)) == name
