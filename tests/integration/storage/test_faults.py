"""R14: whatever the store does, no job succeeds without its object, and an outage fails none."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
import numpy as np
import pytest

from app.config.repository import REPOSITORY
from app.storage.backends import RetryPolicy
from app.storage.objects import ObjectStorage, StorageError
from tests.integration.slot_bench import Bench
from tests.integration.storage import places
from tests.integration.storage.conftest import settings_of
from tests.integration.storage.faulty import FaultyNetwork
from tests.waiting import until
from workers.engine.request import Finished

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from tests.integration.records import FarmDatabase
    from workers.engine.request import Request

JOBS = 12
PART_BYTES = 5 * 1024 * 1024
QUICK = RetryPolicy(call_s=0.5, connect_s=0.5, retries=1, retry_s=1.0)


class Eager(Bench):
    """A worker whose device ends every job at once, before a store with faults."""

    def __init__(
        self, farm: FarmDatabase, folder: Path, storage: ObjectStorage, patience_s: float
    ) -> None:
        super().__init__(farm, folder)
        slot = self.slot
        self.slot = type(slot)(
            store=slot.store,
            storage=storage,
            runtime=slot.runtime,
            renewer=slot.renewer,
            settings=slot.settings,
            worker_id="w",
            retry_uploads_s=patience_s,
        )
        self.device.add = self._add  # type: ignore[method-assign]
        self._farm = farm

    def _add(self, request: Request, checkpoint: bytes | None = None) -> None:
        del checkpoint
        self.device.jobs[request.id] = request
        self.device.end(request.id, noise)

    def work(self, job_id: UUID) -> int:
        """Render until the job has ended, as if each wait were over at once; how many attempts."""
        while self._farm.state(job_id)[0] in {"queued", "running"}:
            self._farm.execute("UPDATE jobs SET run_after = now() WHERE id = :i", i=job_id)
            self.slot.render(job_id)
        return self._farm.state(job_id)[1]


def noise(request: Request) -> Finished:
    """A picture that no compression makes small, another one for each job."""
    draw = np.random.default_rng(request.seed)
    shape = (request.height, request.width, 3)
    pixels = [draw.integers(0, 255, shape, dtype=np.uint8) for _ in range(request.num_images)]
    return Finished(request.id, pixels, tuple(range(request.num_images)), 0.1, 10)


@pytest.fixture
def s3() -> Iterator[str]:
    """A bucket, and its URL; the endpoint is in the environment."""
    with places.s3() as url:
        yield url


def kept(key: str) -> bytes:
    """An object as S3 itself has it, past the network."""
    client = boto3.session.Session().client("s3")
    stored = client.get_object(Bucket="images", Key=f"some/prefix/{key}")
    body: bytes = stored["Body"].read()
    return body


def test_no_success_without_its_object(
    farm: FarmDatabase, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 % of all requests fail in one of six ways: every job succeeds, with the bytes it names."""
    direct = os.environ["AWS_ENDPOINT_URL"]
    with FaultyNetwork(direct) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.url)
        storage = ObjectStorage(settings_of(s3), QUICK)
        bench = Eager(farm, tmp_path, storage, patience_s=0)
        jobs = [farm.queued(seed=n, num_images=1 + n % 2) for n in range(JOBS)]
        with ThreadPoolExecutor(8) as pool:
            attempts = list(pool.map(bench.work, jobs))
        bench.close()
        assert network.hits > JOBS
    monkeypatch.setenv("AWS_ENDPOINT_URL", direct)
    assert max(attempts) > 1, "nothing was ever postponed"
    assert {row["status"] for row in farm.rows("SELECT status FROM jobs")} == {"succeeded"}
    images = farm.rows("SELECT * FROM images")
    assert len(images) == JOBS * 3 // 2
    for image in images:
        data = kept(image["key"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (image["bytes"], image["sha256"])
    assert {row["failures"] for row in farm.rows("SELECT failures FROM jobs")} == {0}
    assert farm.breaches() == []


@pytest.mark.parametrize("fault", ["403", "503", "slow"])
def test_an_outage_makes_jobs_wait(
    farm: FarmDatabase, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """With wrong credentials, or a store that is down: queued again, due later, at no cost."""
    with FaultyNetwork(os.environ["AWS_ENDPOINT_URL"], [fault], share=1.0) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.url)
        bench = Eager(farm, tmp_path, ObjectStorage(settings_of(s3), QUICK), patience_s=0)
        job_id = farm.queued()
        assert bench.slot.render(job_id).startswith("postponed: the object store is unavailable")
        row = farm.job(job_id)
        assert (row["status"], row["failures"], row["releases"]) == ("queued", 0, 1)
        (later,) = farm.rows("SELECT run_after > now() + interval '3 s' AS later FROM jobs")
        assert later["later"]
        assert bench.slot.render(job_id).startswith("not due")
        assert farm.rows("SELECT * FROM images") == []
        network.share = 0.0
        assert bench.work(job_id) == 2
        bench.close()
    assert farm.events(job_id) == ["queued", "running", "released", "running", "succeeded"]


def test_a_deadline_ends_the_wait(farm: FarmDatabase, tmp_path: Path, s3: str) -> None:
    """A job whose time is over while the store is away is expired, not failed."""
    storage = ObjectStorage(settings_of(s3.replace("images", "nowhere")), QUICK)
    bench = Eager(farm, tmp_path, storage, patience_s=0)
    job_id = farm.queued()
    bench.slot.render(job_id)
    farm.outdate(job_id)
    farm.store.expire()
    bench.close()
    assert farm.events(job_id) == ["queued", "running", "released", "expired"]


def test_a_slot_waits_a_little_before_it_gives_a_job_back(
    farm: FarmDatabase, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is back soon costs no second rendering."""
    with FaultyNetwork(os.environ["AWS_ENDPOINT_URL"], ["503"], share=1.0) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.url)
        bench = Eager(farm, tmp_path, ObjectStorage(settings_of(s3), QUICK), patience_s=3600)
        job_id = farm.queued()
        answer = bench.threads.submit(bench.slot.render, job_id)
        until(lambda: network.hits >= 3)
        network.share = 0.0
        assert answer.result().startswith("succeeded")
        bench.close()
    assert farm.state(job_id) == ("succeeded", 1)


def test_a_full_disk_is_an_outage(tmp_path: Path) -> None:
    """On a disk of 300 kB the third picture of 128 kB is refused, and fits once there is room."""
    program = f"""
import os, subprocess, sys
from app.storage.objects import ObjectStorage, StorageError
from tests.integration.storage.conftest import settings_of
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", {str(tmp_path)!r}], check=True)
storage = ObjectStorage(settings_of("file://{tmp_path}"))
data = os.urandom(128_000)
for n in range(2):
    storage.put(f"t/j/1/{{n}}.png", data, "image/png")
try:
    storage.put("t/j/1/2.png", data, "image/png")
except StorageError as error:
    print(error)
storage.delete(["t/j/1/0.png"])
storage.put("t/j/1/2.png", data, "image/png")
print("stored")
"""
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("needs user namespaces, to mount a small disk")
    done = subprocess.run(
        [*apart, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, cwd=REPOSITORY,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    refused, stored = done.stdout.splitlines()
    assert "No space left" in refused, done.stderr
    assert stored == "stored"


def test_wrong_credentials_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the service does not know is an error that names the object, not a panic."""
    with places.gs(tmp_path) as url:
        monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT")
        monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
        storage = ObjectStorage(settings_of(url), QUICK)
        with pytest.raises(StorageError, match="cannot store a/b/1/0"):
            storage.put("a/b/1/0.png", b"x", "image/png")


@pytest.mark.parametrize("parts", [[1], [PART_BYTES, PART_BYTES, 1]])
def test_s3_is_told_the_hash_of_what_it_gets(
    s3: str, monkeypatch: pytest.MonkeyPatch, parts: list[int]
) -> None:
    """So that it refuses a body that is not what was sent, each part of it."""
    with FaultyNetwork(os.environ["AWS_ENDPOINT_URL"], share=0) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.url)
        ObjectStorage(settings_of(s3)).put("t/j/1/0.png", os.urandom(sum(parts)), "image/png")
    sent = [(body, told) for verb, body, told in network.sent if verb == "PUT"]
    assert sorted(len(body) for body, _ in sent) == sorted(parts)
    for body, told in sent:
        digest = hashlib.sha256(body).digest()
        assert told["x-amz-checksum-sha256"] == base64.b64encode(digest).decode()


def test_a_refusal_says_why(s3: str) -> None:
    """In one line, with what the service itself said: not the head of its XML."""
    storage = ObjectStorage(settings_of(s3.replace("images", "no-such-bucket")))
    with pytest.raises(StorageError, match="NoSuchBucket") as caught:
        storage.put("t/j/1/0.png", b"x", "image/png")
    said = str(caught.value)
    assert "\n" not in said
    assert "<?xml" not in said
    assert len(said) < 600
