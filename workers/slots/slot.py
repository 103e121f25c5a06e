"""One job in one slot: claim, render, encode, store, finish.

Every ending is a guarded statement with the attempt as its fence. If the fence does not hold, the
job was cancelled, expired or rescued meanwhile, and what this worker did is dropped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from app.database import CONNECTION_ERRORS
from app.jobs.cache import key_of, repeatable
from app.jobs.records import AttemptCosts, Claim, Failure, attempt_name
from app.storage.objects import StorageError
from workers.engine.request import DeviceLost, Finished, Request
from workers.errors import RenderCancelled, RenderDrained, RenderFailed
from workers.images import moderation
from workers.images.encode import CONTENT_TYPES, encode
from workers.images.inputs import Inputs, InputUnavailable
from workers.images.provenance import Provenance
from workers.images.upload import PATIENCE_S, File, RetryPolicy, again_in_s, put_all, side_by_side
from workers.slots.gate import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from app.config.settings import Settings
    from app.jobs.records import NewImage
    from app.jobs.store import Store
    from app.storage.objects import Storage
    from workers.device.runtime import Runtime
    from workers.images.credentials import Credentials
    from workers.images.moderation import Moderator
    from workers.slots.lease import LeaseRenewer

log = structlog.get_logger("workers.slots.slot")
T = TypeVar("T")
DATABASE_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot works with. One object serves all slots of a worker."""

    store: Store
    storage: Storage
    runtime: Runtime
    renewer: LeaseRenewer
    settings: Settings
    worker_id: str
    patience_s: float = PATIENCE_S
    device: str = ""
    revision: Callable[[Mapping[str, Any]], str | None] = lambda _: None
    """What this worker makes a request's pictures from."""
    gate: ProcessLock = field(default_factory=ProcessLock)
    embeds_prompt: Callable[[UUID], bool] = lambda _: True
    """Whether a tenant's files may say what was asked for."""
    credentials: Credentials | None = None
    moderator: Moderator | None = None

    def render(self, job_id: UUID) -> str:
        """Do one job to its end; a line saying how it went. Raises RenderFailed if it failed.

        A job whose worker was lost before is claimed only once nobody else is in this process.
        """
        with self.gate.shared():
            said = self._claim_and_run(job_id, exclusive=False)
        if said is None and self.store.is_suspect(job_id):
            with self.gate.exclusive():
                said = self._claim_and_run(job_id, exclusive=True)
        return said or "not due: taken by another, or ended"

    def _claim_and_run(self, job_id: UUID, *, exclusive: bool) -> str | None:
        if self.runtime.ended:
            return "not taken: the worker is stopping"
        lease_s = self.settings.lease_s
        claim = self.store.claim(job_id, self.worker_id, lease_s, exclusive=exclusive)
        return self._run(claim) if claim else None

    def _run(self, claim: Claim) -> str:
        with self.renewer.hold(claim):
            try:
                return self._finish(claim, *self._render(claim))
            except (RenderCancelled, RenderDrained) as left:
                checkpoint = left.checkpoint if isinstance(left, RenderDrained) else None
                return self._release(claim, checkpoint)
            except DeviceLost:
                # Any job on it may be the cause, so this is a lost worker: the lease ends now, and the
                # reaper takes the job back as one that is to run alone and not for ever.
                _retry_while_db_down(lambda: self.store.renew({(claim.id, claim.attempt): 0}, 0.0))
                raise
            except RenderFailed as error:
                again = error.code == "out_of_memory"  # others may have held it
                return self._fail(claim, Failure(error.code, error.message, transient=again))
            except InputUnavailable as error:
                return self._fail(claim, Failure("input_unavailable", str(error), transient=True))
            except StorageError as error:
                return self._postpone(claim, error)
            except (DBAPIError, *CONNECTION_ERRORS):
                raise
            except Exception as error:
                log.exception("bug", job_id=str(claim.id), exc_info=error)
                message = f"{type(error).__name__}: {error}"
                return self._fail(claim, Failure("internal_error", message, transient=True))

    def _render(self, claim: Claim) -> tuple[Finished, float]:
        started = time.monotonic()
        asked = self._request(claim)
        result = self.runtime.submit(asked, self._checkpoint(claim)).result()
        return result, time.monotonic() - started

    def _request(self, claim: Claim) -> Request:
        """The engine's form of a stored request, with the pictures that it starts from."""
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
        loras = claim.request.get("loras", ())
        fields["loras"] = tuple((lora["name"], lora["scale"]) for lora in loras)
        inputs = Inputs(self.storage, self.settings.webhook_allow_private)
        for name, mode in (("image", "RGB"), ("mask", "L"), ("control_image", "RGB")):
            if (text := claim.request.get(name)) is not None:
                fields[name] = inputs.picture(claim.tenant_id, text, name, mode)
        name, revision = attempt_name(claim.id, claim.attempt), self.revision(claim.request)
        return Request(id=name, exclusive=claim.exclusive, revision=revision or "", **fields)

    def _finish(self, claim: Claim, result: Finished, render_s: float) -> str:
        started = time.monotonic()
        revision = self.revision(claim.request)
        images = self._store_images(claim, result, revision)
        if claim.checkpoint is not None:
            self._delete_checkpoint(claim.checkpoint)
        costs = AttemptCosts(
            render_s=render_s,
            store_s=time.monotonic() - started,
            gpu_seconds=result.device_s,
            cost_usd=result.device_s / 3600 * self.settings.usd_per_hour(self.device),
        )
        key = (
            key_of(claim.request, revision)
            if revision is not None and repeatable(claim.request)
            else None
        )
        if not _retry_while_db_down(
            lambda: self.store.succeed(claim.id, claim.attempt, images, costs, key)
        ):
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

    def _store_images(self, claim: Claim, result: Finished, revision: str | None) -> list[NewImage]:
        kind = claim.request["output_format"]

        def file(n: int) -> File:
            pixels, seed = result.pixels[n], result.seeds[n]
            height, width = pixels.shape[:2]
            if self.moderator is not None:
                moderation.look(self.moderator, pixels, claim.request)
            prompt = self.embeds_prompt(claim.tenant_id)
            about = Provenance.of(claim.request, seed, revision, prompt=prompt)
            data = encode(pixels, kind, claim.request.get("quality"), about)
            if self.credentials is not None:
                data = self.credentials.sign(data, CONTENT_TYPES[kind], about)
            key = f"{claim.tenant_id}/{claim.id}/{claim.attempt}/{n}.{kind}"
            return File(n, key, data, CONTENT_TYPES[kind], width, height, seed)

        files = side_by_side(file, range(len(result.pixels)))
        return put_all(
            self.storage, files, RetryPolicy(self.patience_s, lambda: self.runtime.ended)
        )

    def _postpone(self, claim: Claim, error: StorageError) -> str:
        """The store is away: the job waits, at no cost to it, for as long as its deadline lets it."""
        delay_s = again_in_s(claim.attempt)
        held = _retry_while_db_down(lambda: self.store.release(claim.id, claim.attempt, delay_s))
        log.warning("postponed", job_id=str(claim.id), held=held, delay_s=delay_s, cause=str(error))
        return f"postponed: the store is away ({error})" if held else "dropped: no longer ours"

    def _checkpoint(self, claim: Claim) -> bytes | None:
        """What an earlier attempt left to go on from; without it, the job begins anew."""
        if claim.checkpoint is None:
            return None
        try:
            return self.storage.get(claim.checkpoint)
        except (FileNotFoundError, StorageError) as error:
            log.warning("no checkpoint", job_id=str(claim.id), cause=str(error))
            return None

    def _save_checkpoint(self, claim: Claim, checkpoint: bytes | None) -> str | None:
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

    def _delete_checkpoint(self, key: str) -> None:
        try:
            self.storage.delete([key])
        except StorageError as error:
            log.warning("checkpoint left behind", key=key, cause=str(error))

    def _release(self, claim: Claim, checkpoint: bytes | None) -> str:
        """Out of the engine before its time: hand the job back, unless it is not ours any more."""
        key = self._save_checkpoint(claim, checkpoint)
        if _retry_while_db_down(
            lambda: self.store.release(claim.id, claim.attempt, checkpoint=key)
        ):
            return "released: the worker is stopping"
        log.info("left", job_id=str(claim.id), attempt=claim.attempt)
        return "left: cancelled, or no longer ours"

    def _fail(self, claim: Claim, failure: Failure) -> str:
        most = self.settings.max_failures
        event = _retry_while_db_down(
            lambda: self.store.fail(claim.id, claim.attempt, failure, most)
        )
        log.info(event or "fenced", job_id=str(claim.id), code=failure.code, cause=failure.message)
        if event == "failed":
            raise RenderFailed(failure.code, failure.message)
        return f"{event or 'dropped'}: {failure.code}"


def _retry_while_db_down(write: Callable[[], T]) -> T:
    """Write an ending, waiting out a database that is away for a while: the work is done."""
    until = time.monotonic() + DATABASE_PATIENCE_S
    while True:
        try:
            return write()
        except CONNECTION_ERRORS as error:
            if time.monotonic() > until:
                raise
            log.warning("waiting for the database", cause=str(error).partition("\n")[0])
            time.sleep(0.5)
