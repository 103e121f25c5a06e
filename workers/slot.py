"""One job in one slot: claim, render, encode, store, finish.

Every ending is a guarded statement with the attempt as its fence. If the fence does not hold, the
job was cancelled, expired or rescued meanwhile, and what this worker did is dropped.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, OperationalError

from app.jobs.records import Claim, Costs, Failure, NewImage, attempt_name
from app.results.storage import StorageError
from workers.encode import CONTENT_TYPES, decode, encode
from workers.engine.request import DeviceLost, Finished, Request
from workers.runtime import RenderCancelled, RenderDrained, RenderFailed

if TYPE_CHECKING:
    from collections.abc import Callable
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

    def render(self, job_id: UUID) -> str:  # noqa: PLR0911 - each ending has its line
        """Do one job to its end; a line saying how it went. Raises RenderFailed if it failed."""
        if self.runtime.ended:
            return "not taken: the worker is stopping"
        claim = self.store.claim(job_id, self.worker_id, self.settings.lease_s)
        if claim is None:
            return "not due: taken by another, or ended"
        with self.keeper.hold(claim):
            try:
                return self._finish(claim, *self._render(claim))
            except RenderDrained as left:
                return self._let_go(claim, left.checkpoint)
            except RenderCancelled:
                return self._let_go(claim)
            except DeviceLost:
                _persist(lambda: self.store.release(claim.id, claim.attempt))
                raise
            except RenderFailed as error:
                return self._fail(claim, Failure(error.code, error.message))
            except StorageError as error:
                return self._fail(claim, Failure("storage_unavailable", str(error), transient=True))
            except DBAPIError:
                raise
            except Exception as error:
                log.exception("bug", job_id=str(claim.id), exc_info=error)
                message = f"{type(error).__name__}: {error}"
                return self._fail(claim, Failure("internal_error", message, transient=True))

    def _render(self, claim: Claim) -> tuple[Finished, float]:
        started = time.monotonic()
        result = self.runtime.submit(_request(claim), self._checkpoint(claim)).result()
        return result, time.monotonic() - started

    def _finish(self, claim: Claim, result: Finished, render_s: float) -> str:
        started = time.monotonic()
        images = self._store_images(claim, result)
        if claim.checkpoint is not None:
            self._forget(claim.checkpoint)
        costs = Costs(
            render_s=render_s,
            store_s=time.monotonic() - started,
            gpu_seconds=result.device_s,
            cost_usd=result.device_s / 3600 * self.settings.usd_per_gpu_hour,
        )
        if not _persist(lambda: self.store.succeed(claim.id, claim.attempt, images, costs)):
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

    def _checkpoint(self, claim: Claim) -> bytes | None:
        """What an earlier attempt left to go on from; without it, the job begins anew."""
        if claim.checkpoint is None:
            return None
        try:
            return self.storage.get(claim.checkpoint)
        except (FileNotFoundError, StorageError) as error:
            log.warning("no checkpoint", job_id=str(claim.id), cause=str(error))
            return None

    def _keep(self, claim: Claim, checkpoint: bytes | None) -> str | None:
        """Store a checkpoint for the next attempt; its key, or none where that does not work."""
        if checkpoint is None:
            return None
        key = f"{claim.tenant_id}/{claim.id}/{claim.attempt}/checkpoint.safetensors"
        try:
            self.storage.put(key, checkpoint, "application/octet-stream")
        except StorageError as error:
            log.warning("checkpoint lost", job_id=str(claim.id), cause=str(error))
            return None
        return key

    def _forget(self, key: str) -> None:
        try:
            self.storage.delete([key])
        except StorageError as error:
            log.warning("checkpoint left behind", key=key, cause=str(error))

    def _let_go(self, claim: Claim, checkpoint: bytes | None = None) -> str:
        """Out of the engine before its time: hand the job back, unless it is not ours any more."""
        key = self._keep(claim, checkpoint)
        if _persist(lambda: self.store.release(claim.id, claim.attempt, key)):
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
    # Jobs that an older version stored lack the later fields.
    for name in ("controlnet", "controlnet_conditioning_scale", "reproducible"):
        if claim.request.get(name) is not None:
            fields[name] = claim.request[name]
    fields["loras"] = tuple(
        (lora["name"], lora["scale"]) for lora in claim.request.get("loras", ())
    )
    for name, mode in (("image", "RGB"), ("mask", "L"), ("control_image", "RGB")):
        if claim.request.get(name) is not None:
            fields[name] = decode(claim.request[name], name, mode)
    return Request(id=attempt_name(claim.id, claim.attempt), alone=claim.alone, **fields)


def _persist(write: Callable[[], T]) -> T:
    """Write an ending, waiting out a database that is away for a while: the work is done."""
    until = time.monotonic() + DATABASE_PATIENCE_S
    while True:
        try:
            return write()
        except OperationalError as error:
            if time.monotonic() > until:
                raise
            log.warning("waiting for the database", cause=str(error.orig).strip().splitlines()[0])
            time.sleep(0.5)
