"""A job's way through one slot: claim, render, encode, store, finish.

Each write that ends an attempt is a guarded statement, and the attempt's number is its fencing
token. If no row matches, the job was cancelled, expired or rescued meanwhile, and this worker drops
its result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import DBAPIError

from app.database import CONNECTION_ERRORS
from app.jobs.cache import key_of, repeatable
from app.jobs.records import AttemptCosts, Claim, Failure, attempt_name
from app.storage.objects import StorageError
from workers.engine.request import DeviceLost, Finished, Request
from workers.errors import InputUnavailable, RenderCancelled, RenderDrained, RenderFailed
from workers.images import moderation
from workers.images.encode import CONTENT_TYPES, encode
from workers.images.inputs import Inputs
from workers.images.provenance import Provenance
from workers.images.upload import (
    RETRY_FOR_S,
    ImageFile,
    RetryPolicy,
    in_parallel,
    postpone_s,
    put_all,
)
from workers.slots.process_lock import ProcessLock
from workers.slots.retrying_store import RetryingStore

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
EVENTS = {"failed": "job_failed", "retried": "job_retried", None: "attempt_superseded"}
"""The log events of a failed attempt, by what the store did."""
NOT_HELD = "dropped: this worker no longer holds the job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Renders jobs, one for each call of `render`. One object serves all slots of a worker."""

    store: Store
    storage: Storage
    runtime: Runtime
    renewer: LeaseRenewer
    settings: Settings
    worker_id: str
    retry_uploads_s: float = RETRY_FOR_S
    device: str = ""
    revision: Callable[[Mapping[str, Any]], str | None] = lambda _: None
    """Returns the revision of the files that this worker renders a request with."""
    process_lock: ProcessLock = field(default_factory=ProcessLock)
    embeds_prompt: Callable[[UUID], bool] = lambda _: True
    """Returns whether a tenant's image files may contain the prompt."""
    credentials: Credentials | None = None
    moderator: Moderator | None = None

    def render(self, job_id: UUID) -> str:
        """Run one job to its end. Return its outcome in one line; raise RenderFailed if it failed.

        A suspect (a job whose worker was lost) is claimed only when no other job is in the process.
        """
        with self.process_lock.shared():
            outcome = self._claim_and_run(job_id, exclusive=False)
        if outcome is None and self.store.is_suspect(job_id):
            with self.process_lock.exclusive():
                outcome = self._claim_and_run(job_id, exclusive=True)
        return outcome or "not due: another worker has the job, or it has ended"

    def _claim_and_run(self, job_id: UUID, *, exclusive: bool) -> str | None:
        if self.runtime.ended:
            return "not claimed: the worker is stopping"
        lease_s = self.settings.lease_s
        claim = self.store.claim(job_id, self.worker_id, lease_s, exclusive=exclusive)
        return self._run(claim) if claim else None

    def _run(self, claim: Claim) -> str:
        with self.renewer.hold(claim):
            try:
                return self._finish(claim, *self._render(claim))
            except RenderCancelled as error:
                checkpoint = error.checkpoint if isinstance(error, RenderDrained) else None
                return self._release(claim, checkpoint)
            except DeviceLost:
                # Any job on the device may be the cause, so this counts as a lost worker: the lease
                # ends now, the reaper takes the job back, and its next attempts are exclusive and
                # limited in number.
                self._endings.end_lease(claim)
                raise
            except RenderFailed as error:
                retry = error.code == "out_of_memory"  # other jobs may have used the memory
                return self._fail(claim, Failure(error.code, error.message, transient=retry))
            except InputUnavailable as error:
                return self._fail(claim, Failure("input_unavailable", str(error), transient=True))
            except StorageError as error:
                return self._postpone(claim, error)
            except (DBAPIError, *CONNECTION_ERRORS):
                raise
            except Exception as error:
                log.exception("unexpected_error", job_id=str(claim.id), exc_info=error)
                message = f"{type(error).__name__}: {error}"
                return self._fail(claim, Failure("internal_error", message, transient=True))

    @property
    def _endings(self) -> RetryingStore:
        return RetryingStore(self.store)

    def _render(self, claim: Claim) -> tuple[Finished, float]:
        started = time.monotonic()
        request = self._request(claim)
        result = self.runtime.submit(request, self._checkpoint(claim)).result()
        return result, time.monotonic() - started

    def _request(self, claim: Claim) -> Request:
        """Return the stored request in the engine's form, with its input pictures loaded."""
        fields: dict[str, Any] = {
            name: claim.request[name]
            for name in (
                "model", "prompt", "negative_prompt", "width", "height", "num_inference_steps",
                "guidance_scale", "num_images", "seed", "scheduler", "strength", "priority",
            )
        }  # fmt: skip
        # Jobs that an older version stored lack newer fields.
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
        if not self._endings.succeed(claim, images, costs, key):
            log.info("attempt_superseded", job_id=str(claim.id), attempt=claim.attempt)
            return NOT_HELD
        log.info(
            "job_succeeded",
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

        def image_file(n: int) -> ImageFile:
            pixels, seed = result.pixels[n], result.seeds[n]
            height, width = pixels.shape[:2]
            if self.moderator is not None:
                moderation.check(self.moderator, pixels, claim.request)
            prompt = self.embeds_prompt(claim.tenant_id)
            about = Provenance.of(claim.request, seed, revision, prompt=prompt)
            data = encode(pixels, kind, claim.request.get("quality"), about)
            if self.credentials is not None:
                data = self.credentials.sign(data, CONTENT_TYPES[kind], about)
            key = f"{claim.tenant_id}/{claim.id}/{claim.attempt}/{n}.{kind}"
            return ImageFile(
                n=n,
                key=key,
                data=data,
                content_type=CONTENT_TYPES[kind],
                width=width,
                height=height,
                seed=seed,
            )

        files = in_parallel(image_file, range(len(result.pixels)))
        retry = RetryPolicy(self.retry_uploads_s, lambda: self.runtime.ended)
        return put_all(self.storage, files, retry)

    def _postpone(self, claim: Claim, error: StorageError) -> str:
        """Release the job because the object store is unavailable, at no cost to the job.

        It is tried again until its deadline.
        """
        delay_s = postpone_s(claim.attempt)
        held = self._endings.release(claim, delay_s)
        cause = str(error)
        log.warning("job_postponed", job_id=str(claim.id), held=held, delay_s=delay_s, cause=cause)
        return f"postponed: the object store is unavailable ({error})" if held else NOT_HELD

    def _checkpoint(self, claim: Claim) -> bytes | None:
        """Load the checkpoint of an earlier attempt; without one the job starts from step 0."""
        if claim.checkpoint is None:
            return None
        try:
            return self.storage.get(claim.checkpoint)
        except (FileNotFoundError, StorageError) as error:
            log.warning("checkpoint_unavailable", job_id=str(claim.id), cause=str(error))
            return None

    def _save_checkpoint(self, claim: Claim, checkpoint: bytes | None) -> str | None:
        """Store a checkpoint for the next attempt. Return its key, or None if that fails."""
        if checkpoint is None:
            return None
        key = f"{claim.tenant_id}/{claim.id}/{claim.attempt}/checkpoint.safetensors"
        try:
            self.storage.put(key, checkpoint, "application/octet-stream")
        except StorageError as error:
            log.warning("checkpoint_not_saved", job_id=str(claim.id), cause=str(error))
            return None
        return key

    def _delete_checkpoint(self, key: str) -> None:
        try:
            self.storage.delete([key])
        except StorageError as error:
            log.warning("checkpoint_not_deleted", key=key, cause=str(error))

    def _release(self, claim: Claim, checkpoint: bytes | None) -> str:
        """Return an unfinished job to the queue, if this worker still holds it."""
        key = self._save_checkpoint(claim, checkpoint)
        if self._endings.release(claim, checkpoint=key):
            return "released: the worker is stopping"
        log.info("attempt_cancelled", job_id=str(claim.id), attempt=claim.attempt)
        return "cancelled: the job was cancelled, or this worker no longer holds it"

    def _fail(self, claim: Claim, failure: Failure) -> str:
        event = self._endings.fail(claim, failure, self.settings.max_failures)
        log.info(EVENTS[event], job_id=str(claim.id), code=failure.code, cause=failure.message)
        if event == "failed":
            raise RenderFailed(failure.code, failure.message)
        return f"{event or 'dropped'}: {failure.code}"
