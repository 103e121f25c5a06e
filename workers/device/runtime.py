"""The device thread: one thread owns the engine, everyone else holds futures.

`Runtime` is what a slot sees: submit a request, wait on its future, cancel, look at the progress.
What renders behind it is an `Engine`, or for load tests a `NullEngine`; both are driven by `step`.
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

COMPILING = 15
"""So many times the watchdog's patience is given to a forward that may have to be compiled."""


class Steps(Protocol):
    """What the device thread drives: see `workers.engine.engine.Engine`."""

    @property
    def idle(self) -> bool:
        """Whether `step` would have nothing to do."""

    @property
    def compiling(self) -> bool:
        """Whether a forward is under way that may have to be compiled first."""

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Queue a request; raises BadRequest or BadCheckpoint."""

    def cancel(self, job_id: str) -> bool:
        """Have a job leave at the next step."""

    def step(self) -> list[Outcome]:
        """Run one forward; return the jobs that ended."""

    def drain(self) -> list[Drained]:
        """Let every job go with a checkpoint."""

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """(steps done, steps asked for) of every job."""

    def previews(self, job_ids: Sequence[str]) -> Mapping[str, Preview]:
        """What these jobs look like by now, of those that can be seen."""

    def summary(self) -> dict[str, Any]:
        """What has been done so far, as JSON."""


class Runtime:
    """Runs an engine in a thread of its own. `submit` and `cancel` are safe from any thread."""

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
        """Build the engine in its thread (models are loaded there) and wait until it stands."""
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """End the thread once its present step is done. What is unfinished is drained."""
        self._inbox.put(("stop", None))
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, request: Request, checkpoint: bytes | None = None) -> Future[Finished]:
        """Render; the future raises RenderFailed, RenderCancelled, RenderDrained or DeviceLost."""
        future: Future[Finished] = Future()
        with self._closing:
            if self._ended is None:
                self._inbox.put(("add", (request, checkpoint, future)))
            else:
                future.set_exception(self._ended)
        return future

    @property
    def ended(self) -> bool:
        """Whether the device thread has ended: nothing will be rendered any more."""
        return self._ended is not None

    def cancel(self, job_id: str) -> None:
        """Have a job leave at its next park, if it is still here."""
        self._inbox.put(("cancel", job_id))

    def progress_of(self, job_id: str) -> int:
        """Steps that the job has done."""
        return self._progress.get(job_id, (0, 0))[0]

    def previews(self, job_ids: Sequence[str]) -> Future[Mapping[str, Preview]]:
        """What these jobs look like by now; answered between two steps."""
        future: Future[Mapping[str, Preview]] = Future()
        with self._closing:
            if self._ended is None:
                self._inbox.put(("previews", (job_ids, future)))
            else:
                future.set_result({})
        return future

    def stuck_s(self) -> float:
        """Seconds since the device thread last finished a step while it had work; 0 when idle.

        While a forward is compiled they go by `COMPILING` times slower.
        """
        if not self._futures:
            return 0.0
        slower = COMPILING if self.engine is not None and self.engine.compiling else 1
        return (time.monotonic() - self.stepped_at) / slower

    def stats(self) -> dict[str, Any]:
        """What the engine has done so far, for the worker's record."""
        return self.engine.summary() if self.engine else {}

    def _run(self) -> None:
        try:
            self.engine = self._build()
        except BaseException as error:  # noqa: BLE001 - whoever started us is told
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            self._serve(self.engine)
            for left in self.engine.drain():
                self._futures.pop(left.id).set_exception(RenderDrained(left.checkpoint))
            self._end_all(RenderCancelled())
        except Exception as error:
            self.lost = str(error) or type(error).__name__
            log.critical("device lost", exc_info=None if isinstance(error, DeviceLost) else error)
            self._end_all(DeviceLost(self.lost))

    def _serve(self, engine: Steps) -> None:
        while self._take(engine):
            self.stepped_at = time.monotonic()
            if engine.idle:
                continue
            for outcome in engine.step():
                self._settle(outcome)
            self._progress = dict(engine.progress())

    def _take(self, engine: Steps) -> bool:
        """Handle what came in; waits for something when the engine is idle. False: stop."""
        wait = engine.idle
        while True:
            try:
                verb, what = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            wait = False
            match verb:
                case "stop":
                    return False
                case "cancel":
                    engine.cancel(what)
                case "previews":
                    _look(engine, *what)
                case _:
                    self._add(engine, *what)

    def _add(
        self, engine: Steps, request: Request, checkpoint: bytes | None, future: Future[Finished]
    ) -> None:
        self.stepped_at = time.monotonic()
        try:
            engine.add(request, checkpoint)
        except BadCheckpoint as error:  # the job can still be had from its beginning
            log.warning("checkpoint unusable", job=request.id, cause=str(error))
            self._add(engine, request, None, future)
        except BadRequest as error:
            future.set_exception(RenderFailed(error.code, f"{error.field}: {error.message}"))
        except Exception as error:  # noqa: BLE001 - a request's fault ends that request alone
            future.set_exception(error)
        else:
            self._futures[request.id] = future

    def _settle(self, outcome: Outcome) -> None:
        future = self._futures.pop(outcome.id)
        match outcome:
            case Finished():
                future.set_result(outcome)
            case Failed(code=code, message=message):
                future.set_exception(RenderFailed(code, message))
            case Cancelled():
                future.set_exception(RenderCancelled())

    def _end_all(self, error: Exception) -> None:
        """Resolve every future with the error; what never reached the engine is only cancelled.

        So are those that are asked for from now on: they had no part in what happened.
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
                verb, what = self._inbox.get_nowait()
            except queue.Empty:
                return
            if verb == "add":
                what[2].set_exception(RenderCancelled())
            elif verb == "previews":
                what[1].set_result({})


def _look(engine: Steps, job_ids: Sequence[str], future: Future[Mapping[str, Preview]]) -> None:
    try:
        future.set_result(engine.previews(job_ids))
    except Exception as error:  # noqa: BLE001 - whoever asked is told; no job depends on it
        future.set_exception(error)
