"""One job in one slot: claim, render, encode, store, finish.

Every ending is a guarded statement with the attempt as its fence. If the fence does not hold, the
job was cancelled, expired or rescued meanwhile, and what this worker did is dropped.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from app.database import AWAY
from app.jobs.cache import key_of
from app.jobs.records import Claim, Costs, Failure, NewImage, attempt_name
from app.results.storage import StorageError
from workers.encode import CONTENT_TYPES, decode, encode
from workers.engine.request import DeviceLost, Finished, Request
from workers.gate import Gate
from workers.runtime import RenderCancelled, RenderFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from app.jobs.store import Store
    from app.results.storage import Storage
    from app.settings import Settings
    from workers.lease import Keeper
    from workers.runtime import Runtime

log = structlog.get_logger("workers.slot")
T = TypeVar("T")
DATABASE_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot works with. One object serves all slots of a worker."""

    store: Store
    storage: Storage
    runtime: Runtime
    keeper: Keeper
    settings: Settings
    worker_id: str
    device: str = ""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Of the models as this worker has loaded them."""
    gate: Gate = field(default_factory=Gate)

    def render(self, job_id: UUID) -> str:
        """Do one job to its end; a line saying how it went. Raises RenderFailed if it failed.

        A job whose worker was lost before is claimed only once nobody else is in this process.
        """
        with self.gate.together():
            said = self._claim_and_do(job_id, alone=False)
        if said is None and self.store.is_suspect(job_id):
            with self.gate.alone():
                said = self._claim_and_do(job_id, alone=True)
        return said or "not due: taken by another, or ended"

    def _claim_and_do(self, job_id: UUID, *, alone: bool) -> str | None:
        if self.runtime.ended:
            return "not taken: the worker is stopping"
        lease_s = self.settings.lease_s
        claim = self.store.claim(job_id, self.worker_id, lease_s, alone=alone)
        return self._do(claim) if claim else None

    def _do(self, claim: Claim) -> str:
        with self.keeper.hold(claim):
            try:
                return self._finish(claim, *self._render(claim))
            except RenderCancelled:
                return self._let_go(claim)
            except DeviceLost:
                _persist(lambda: self.store.release(claim.id, claim.attempt))
                raise
            except RenderFailed as error:
                return self._fail(claim, Failure(error.code, error.message))
            except StorageError as error:
                return self._fail(claim, Failure("storage_unavailable", str(error), transient=True))
            except (DBAPIError, *AWAY):
                raise
            except Exception as error:
                log.exception("bug", job_id=str(claim.id), exc_info=error)
                message = f"{type(error).__name__}: {error}"
                return self._fail(claim, Failure("internal_error", message, transient=True))

    def _render(self, claim: Claim) -> tuple[Finished, float]:
        started = time.monotonic()
        result = self.runtime.submit(_request(claim)).result()
        return result, time.monotonic() - started

    def _finish(self, claim: Claim, result: Finished, render_s: float) -> str:
        started = time.monotonic()
        images = self._store_images(claim, result)
        costs = Costs(
            render_s=render_s,
            store_s=time.monotonic() - started,
            gpu_seconds=result.device_s,
            cost_usd=result.device_s / 3600 * self.settings.usd_per_hour(self.device),
        )
        revision = self.revisions.get(claim.request["model"])
        key = key_of(claim.request, revision) if revision is not None else None
        if not _persist(lambda: self.store.succeed(claim.id, claim.attempt, images, costs, key)):
            log.info("fenced", job_id=str(claim.id), attempt=claim.attempt)
            return "dropped: no longer ours"
        log.info(
            "succeeded",
            job_id=str(claim.id),
            attempt=claim.attempt,
            model=claim.request["model"],
            images=len(images),
            render_s=round(render_s, 3),
            gpu_s=round(result.device_s, 3),
        )
        count = f"{len(images)} image{'s' if len(images) > 1 else ''}"
        return f"succeeded: {count} in {render_s + costs.store_s:.2f} s"

    def _store_images(self, claim: Claim, result: Finished) -> list[NewImage]:
        kind = claim.request["output_format"]

        def put(n: int) -> NewImage:
            pixels = result.pixels[n]
            key = f"{claim.tenant_id}/{claim.id}/{claim.attempt}/{n}.{kind}"
            stored = self.storage.put(key, encode(pixels, kind), CONTENT_TYPES[kind])
            height, width = pixels.shape[:2]
            return NewImage(
                n, key, width, height, CONTENT_TYPES[kind], stored.bytes, stored.sha256,
                result.seeds[n],
            )  # fmt: skip

        if len(result.pixels) == 1:
            return [put(0)]
        with ThreadPoolExecutor(max_workers=4) as pool:
            return list(pool.map(put, range(len(result.pixels))))

    def _let_go(self, claim: Claim) -> str:
        """Out of the engine before its time: hand the job back, unless it is not ours any more."""
        if _persist(lambda: self.store.release(claim.id, claim.attempt)):
            return "released: the worker is stopping"
        log.info("left", job_id=str(claim.id), attempt=claim.attempt)
        return "left: cancelled, or no longer ours"

    def _fail(self, claim: Claim, failure: Failure) -> str:
        most = self.settings.max_failures
        event = _persist(lambda: self.store.fail(claim.id, claim.attempt, failure, most))
        log.info(event or "fenced", job_id=str(claim.id), code=failure.code, cause=failure.message)
        if event == "failed":
            raise RenderFailed(failure.code, failure.message)
        return f"{event or 'dropped'}: {failure.code}"


def _request(claim: Claim) -> Request:
    """The engine's form of a stored request."""
    fields: dict[str, Any] = {
        name: claim.request[name]
        for name in (
            "model", "prompt", "negative_prompt", "width", "height", "num_inference_steps",
            "guidance_scale", "num_images", "seed", "scheduler", "strength", "priority",
        )
    }  # fmt: skip
    for name, mode in (("image", "RGB"), ("mask", "L")):
        if claim.request[name] is not None:
            fields[name] = decode(claim.request[name], name, mode)
    return Request(id=attempt_name(claim.id, claim.attempt), alone=claim.alone, **fields)


def _persist(write: Callable[[], T]) -> T:
    """Write an ending, waiting out a database that is away for a while: the work is done."""
    until = time.monotonic() + DATABASE_PATIENCE_S
    while True:
        try:
            return write()
        except AWAY as error:
            if time.monotonic() > until:
                raise
            log.warning("waiting for the database", cause=str(error).partition("\n")[0])
            time.sleep(0.5)
