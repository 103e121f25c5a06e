"""The janitor: what it deletes, and what it keeps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from app.config.settings import Settings
from app.dispatch.janitor import MIN_AGE_S, Janitor
from app.ids import new_id
from app.storage.objects import ObjectStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from tests.integration.records import FarmDatabase


@pytest.fixture(autouse=True)
def _audited(farm: FarmDatabase) -> Iterator[None]:
    """After each test the database holds every invariant."""
    yield
    assert farm.breaches() == []


class House:
    """A janitor and its object store."""

    def __init__(self, farm: FarmDatabase, folder: Path) -> None:
        settings = Settings.from_environment(
            {
                "RENDERFARM_DATABASE_URL": "postgresql://unused/farm",
                "RENDERFARM_BROKER_URL": "redis://unused/0",
                "RENDERFARM_DIR": str(folder),
            }
        )
        self.farm = farm
        self.folder = folder / "objects"
        self.storage = ObjectStorage(settings)
        self.janitor = Janitor(
            store=farm.store, engine=farm.engine, storage=self.storage, settings=settings
        )

    def put(self, key: str, age_s: float = 0.0) -> str:
        """Store an object that is `age_s` old."""
        self.storage.put(key, b"picture", "image/png")
        path = self.folder / key
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))
        return key

    def finished(self, job_id: UUID | None = None, **request: Any) -> UUID:
        """Finish a job that ended an hour ago, with its object."""
        claim = self.farm.claimed(job_id, **request)
        self.farm.finish(claim)
        self.put(f"{claim.tenant_id}/{claim.id}/{claim.attempt}/0.png", 2 * MIN_AGE_S)
        self.age(claim.id)
        return claim.id

    def age(self, job_id: UUID) -> None:
        """Move the end of a job an hour back."""
        self.farm.forge(
            "UPDATE jobs SET finished_at = now() - interval '1 h' WHERE id = :i", i=job_id
        )
        self.farm.forge("UPDATE usage_entries SET day = (now() - interval '1 h')::date")

    @property
    def keys(self) -> list[str]:
        """The keys of all objects."""
        return sorted(
            str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()
        )


@pytest.fixture
def house(farm: FarmDatabase, tmp_path: Path) -> House:
    """A janitor with an empty object store."""
    return House(farm, tmp_path)


def keep(farm: FarmDatabase, column: str, seconds: float) -> None:
    """Set how long the tenant keeps its jobs or images."""
    farm.execute(f"UPDATE tenants SET {column} = :s WHERE id = :i", s=seconds, i=farm.tenant.id)  # noqa: S608


def test_without_a_setting_everything_is_kept(house: House) -> None:
    """The objects and rows of a tenant without a retention time stay."""
    house.finished()
    house.janitor.round()
    assert len(house.keys) == 1
    assert len(house.farm.rows("SELECT * FROM images")) == 1


def test_images_expire_and_their_job_stays(house: House, farm: FarmDatabase) -> None:
    """After `keep_images_s` row and object are deleted; younger ones and other tenants' stay."""
    keep(farm, "keep_images_s", 1800)
    old = house.finished()
    young = farm.claimed()
    farm.finish(young)
    house.put(f"{young.tenant_id}/{young.id}/1/0.png")
    theirs = house.finished(farm.insert(farm.new(tenant=farm.other))[0].row["id"])
    house.janitor.round()
    assert len(house.keys) == 2
    assert farm.job(old)["images_gone_at"] is not None
    remaining = {row["job_id"] for row in farm.rows("SELECT job_id FROM images")}
    assert remaining == {young.id, theirs}
    assert farm.state(old) == ("succeeded", 1)
    house.janitor.round()


def test_jobs_expire_with_all_their_data(house: House, farm: FarmDatabase) -> None:
    """After `keep_jobs_s` job, events, images and objects are deleted; its usage stays."""
    keep(farm, "keep_jobs_s", 1800)
    gone = house.finished()
    waits, runs = farm.queued(), farm.claimed().id
    for job_id in (waits, runs):
        farm.forge("UPDATE jobs SET created_at = now() - interval '9 h' WHERE id = :i", i=job_id)
    house.janitor.round()
    assert {row["id"] for row in farm.rows("SELECT id FROM jobs")} == {waits, runs}
    assert house.keys == []
    assert farm.rows("SELECT * FROM events WHERE job_id = :i", i=gone) == []
    assert farm.rows("SELECT sum(jobs) AS jobs FROM usage")[0]["jobs"] == 1


def test_a_job_stays_while_its_webhook_waits(house: House, farm: FarmDatabase) -> None:
    """A job with a pending webhook is not deleted, however short the retention time is."""
    keep(farm, "keep_jobs_s", 1800)
    job_id = house.finished(webhook={"url": "https://shop.example/hook"})
    house.janitor.round()
    assert farm.state(job_id) == ("succeeded", 1)
    farm.execute("UPDATE outbox SET state = 'delivered', delivered_at = now()")
    house.janitor.round()
    assert farm.rows("SELECT * FROM jobs") == []


def test_a_shared_object_stays_until_its_last_job_expires(house: House, farm: FarmDatabase) -> None:
    """A job from the result cache keeps its picture when the first job expires."""
    first = farm.shared()
    house.finished(first)
    second = farm.shared()
    keep(farm, "keep_jobs_s", 1800)
    house.janitor.round()
    assert len(house.keys) == 1
    house.age(second)
    house.janitor.round()
    assert house.keys == []


def test_only_orphans_are_deleted(house: House, farm: FarmDatabase) -> None:
    """Objects of failed attempts are deleted; named, running, young and foreign ones stay."""
    kept = [f"{farm.tenant.id}/{house.finished()}/1/0.png"]
    runs = farm.claimed()
    mine = f"{farm.tenant.id}/{runs.id}"
    farm.store.release(runs.id, 1)
    farm.claimed(runs.id)
    old = 2 * MIN_AGE_S
    house.put(f"{mine}/1/0.png", old)
    house.put(f"{farm.tenant.id}/{new_id()}/1/0.png", old)
    kept += [house.put(f"{mine}/2/0.png", old), house.put("readme.txt", old)]
    kept += [house.put(f"{farm.tenant.id}/{new_id()}/1/0.png")]
    assert house.janitor.sweep() == 2
    assert house.keys == sorted(kept)


def test_a_checkpoint_stays_while_its_job_waits(house: House, farm: FarmDatabase) -> None:
    """The checkpoint of a drained attempt is deleted after its job has ended."""
    claim = farm.claimed()
    key = f"{farm.tenant.id}/{claim.id}/1/checkpoint.safetensors"
    house.put(key, 2 * MIN_AGE_S)
    farm.store.release(claim.id, 1, checkpoint=key)
    assert house.janitor.sweep() == 0
    farm.store.cancel(claim.id, farm.tenant.id)
    assert house.janitor.sweep() == 1
    assert house.keys == []


def test_a_sweep_runs_when_it_is_due(house: House, farm: FarmDatabase) -> None:
    """Rounds before the due time do not sweep."""
    house.put(f"{farm.tenant.id}/{new_id()}/1/0.png", 2 * MIN_AGE_S)
    house.janitor.round()
    assert len(house.keys) == 1
    house.janitor._sweep_at = house.janitor._clock()
    house.janitor.round()
    assert house.keys == []
