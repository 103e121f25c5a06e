"""The device thread: one thread owns the engine (an actor); all other threads hold futures.

Slots use `Runtime`: they submit a request, wait for its future, cancel it and read its progress.
The runtime calls `step` of an `Engine`, or of a `NullEngine` for load tests.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from workers.engine.request import (
    BadCheckpoint,
    BadRequest,
    Cancelled,
    DeviceLost,
    Failed,
    Finished,
)
from workers.errors import RenderCancelled, RenderDrained, RenderFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workers.engine.model import Preview
    from workers.engine.request import Drained, Outcome, Request

log = structlog.get_logger("workers.device.runtime")

COMPILE_FACTOR = 15
"""The watchdog's limit is this many times longer for a forward that may need compilation."""


class Steps(Protocol):
    """The engine's interface to the device thread; see `workers.engine.engine.Engine`."""

    @property
    def idle(self) -> bool:
        """Whether `step` has nothing to do."""

    @property
    def compiling(self) -> bool:
        """Whether the current forward may need compilation first."""

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Queue a request; raises BadRequest or BadCheckpoint."""

    def cancel(self, job_id: str) -> bool:
        """Remove a job at the next step. Return False if the engine does not have it."""

    def step(self) -> list[Outcome]:
        """Run one forward. Return the outcomes of the jobs that ended."""

    def drain(self) -> list[Drained]:
        """Remove all jobs. Return each with its checkpoint."""

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Return (steps done, steps requested) for each job."""

    def previews(self, job_ids: Sequence[str]) -> Mapping[str, Preview]:
        """Return the current previews of these jobs, without those that have none."""

    def summary(self) -> dict[str, Any]:
        """Return the engine's statistics as a JSON object."""


class Runtime:
    """Runs an engine in its own thread. All methods are safe from any other thread."""

    def __init__(self, build: Callable[[], Steps]) -> None:
        self._build = build
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._futures: dict[str, Future[Finished]] = {}
        self._progress: Mapping[str, tuple[int, int]] = {}
        self._ready: Future[None] = Future()
        self._closing = threading.Lock()
        self._ended: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self.engine: Steps | None = None
        self.stepped_at = time.monotonic()
        self.lost: str | None = None

    def start(self) -> None:
        """Build the engine in the device thread, which loads the models.

        Raises what that raises.
        """
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """End the thread after its current step. Unfinished jobs are drained."""
        self._inbox.put(("stop", None))
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, request: Request, checkpoint: bytes | None = None) -> Future[Finished]:
        """Queue a request. Its future raises a WorkerError of `workers.errors`, or DeviceLost."""
        future: Future[Finished] = Future()
        with self._closing:
            if self._ended is None:
                self._inbox.put(("add", (request, checkpoint, future)))
            else:
                future.set_exception(self._ended)
        return future

    @property
    def ended(self) -> bool:
        """Whether the device thread has ended and renders no more jobs."""
        return self._ended is not None

    def cancel(self, job_id: str) -> None:
        """Remove a job when it parks next. Does nothing if the engine does not have it."""
        self._inbox.put(("cancel", job_id))

    def progress_of(self, job_id: str) -> int:
        """Return how many steps the job has made."""
        return self._progress.get(job_id, (0, 0))[0]

    def previews(self, job_ids: Sequence[str]) -> Future[Mapping[str, Preview]]:
        """Request previews of these jobs. The device thread answers between two steps."""
        future: Future[Mapping[str, Preview]] = Future()
        with self._closing:
            if self._ended is None:
                self._inbox.put(("previews", (job_ids, future)))
            else:
                future.set_result({})
        return future

    def stuck_s(self) -> float:
        """Return the seconds since the last step, for a watchdog; 0 if there are no jobs.

        While a forward may need compilation, this time runs `COMPILE_FACTOR` times slower.
        """
        if not self._futures:
            return 0.0
        compiling = self.engine is not None and self.engine.compiling
        return (time.monotonic() - self.stepped_at) / (COMPILE_FACTOR if compiling else 1)

    def stats(self) -> dict[str, Any]:
        """Return the engine's statistics, for the registry of workers."""
        return self.engine.summary() if self.engine else {}

    def _run(self) -> None:
        try:
            self.engine = self._build()
        except BaseException as error:  # noqa: BLE001 - `start` raises it
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            self._serve(self.engine)
            for job in self.engine.drain():
                self._futures.pop(job.id).set_exception(RenderDrained(job.checkpoint))
            self._end_all(RenderCancelled())
        except Exception as error:
            self.lost = str(error) or type(error).__name__
            log.critical("device_lost", exc_info=None if isinstance(error, DeviceLost) else error)
            self._end_all(DeviceLost(self.lost))

    def _serve(self, engine: Steps) -> None:
        while self._receive(engine):
            self.stepped_at = time.monotonic()
            if engine.idle:
                continue
            for outcome in engine.step():
                self._resolve(outcome)
            self._progress = dict(engine.progress())

    def _receive(self, engine: Steps) -> bool:
        """Handle all messages of the inbox; wait for one if the engine is idle.

        False means stop.
        """
        wait = engine.idle
        while True:
            try:
                verb, content = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            wait = False
            match verb:
                case "stop":
                    return False
                case "cancel":
                    engine.cancel(content)
                case "previews":
                    _answer_previews(engine, *content)
                case _:
                    self._add(engine, *content)

    def _add(
        self, engine: Steps, request: Request, checkpoint: bytes | None, future: Future[Finished]
    ) -> None:
        self.stepped_at = time.monotonic()
        try:
            engine.add(request, checkpoint)
        except BadCheckpoint as error:  # the job starts from step 0 instead
            log.warning("checkpoint_rejected", job=request.id, cause=str(error))
            self._add(engine, request, None, future)
        except BadRequest as error:
            future.set_exception(RenderFailed(error.code, f"{error.field}: {error.message}"))
        except Exception as error:  # noqa: BLE001 - a request's fault ends that request alone
            future.set_exception(error)
        else:
            self._futures[request.id] = future

    def _resolve(self, outcome: Outcome) -> None:
        future = self._futures.pop(outcome.id)
        match outcome:
            case Finished():
                future.set_result(outcome)
            case Failed(code=code, message=message):
                future.set_exception(RenderFailed(code, message))
            case Cancelled():
                future.set_exception(RenderCancelled())

    def _end_all(self, error: Exception) -> None:
        """Fail the futures of all jobs in the engine with this error, and end the runtime.

        Requests still in the inbox, and all later ones, are only cancelled: they did not cause the
        error.
        """
        with self._closing:
            self._ended = self._ended or RenderCancelled()
        while self._futures:
            _, future = self._futures.popitem()
            try:
                future.set_exception(error)
            except InvalidStateError:
                continue
        while True:
            try:
                verb, content = self._inbox.get_nowait()
            except queue.Empty:
                return
            if verb == "add":
                content[2].set_exception(RenderCancelled())
            elif verb == "previews":
                content[1].set_result({})


def _answer_previews(
    engine: Steps, job_ids: Sequence[str], future: Future[Mapping[str, Preview]]
) -> None:
    try:
        future.set_result(engine.previews(job_ids))
    except Exception as error:  # noqa: BLE001 - only the caller's preview fails
        future.set_exception(error)
