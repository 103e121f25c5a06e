"""Job: one request in flight, with its view of the pipeline and its greenlet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from workers.engine import faults
from workers.engine.model import Preview
from workers.engine.park import PipelineCoroutine
from workers.engine.policy import Candidate, Parked
from workers.engine.replay import ReplayLog
from workers.engine.request import Cancelled, Drained, Failed, Finished
from workers.engine.rows import ForwardOptions

if TYPE_CHECKING:
    from workers.engine.model import Model
    from workers.engine.request import Outcome, Request
    from workers.engine.rows import Call


class Job:
    """A request that is being rendered. Only the engine uses it, on the engine's thread."""

    def __init__(
        self,
        request: Request,
        model: Model,
        checkpoint: bytes | None = None,
        added_s: float = 0.0,
    ) -> None:
        self.request = request
        self.cancel_requested = False
        self.added_s = added_s
        self._view = model.view(request)
        self._log = ReplayLog(request, checkpoint)
        self._lane = None if model.batched else model.name
        options = ForwardOptions(request.reproducible, request.loras)
        self._coroutine = PipelineCoroutine(self._view.render, options)
        self._denoised = 0
        self._device_s = 0.0

    @property
    def call(self) -> Call:
        """The call at which the job is parked."""
        assert self._coroutine.call is not None, "the job is not parked"  # noqa: S101
        return self._coroutine.call

    @property
    def done(self) -> bool:
        """Whether the pipeline has returned or raised."""
        return self._coroutine.done

    @property
    def error(self) -> Exception | None:
        """The exception that the pipeline raised, if any."""
        return self._coroutine.error

    @property
    def progress(self) -> tuple[int, int]:
        """Steps done and steps requested; ends at (steps, steps) with every scheduler."""
        steps = self.request.num_inference_steps
        return min(steps, self._denoised * steps // self._denoiser_calls), steps

    @property
    def candidate(self) -> Candidate:
        """The job as `policy.admit` sees it."""
        return Candidate(self.request.exclusive, self._lane)

    def parked(self, now_s: float) -> Parked:
        """Return the job as `policy.choose` sees it."""
        call = self.call
        loop = self._denoiser_calls - self._denoised
        calls_left = {"denoiser": loop, "control": loop, "decoder": 1}
        return Parked(
            job=self.request.id,
            key=call.signature,
            rows=call.rows,
            calls_left=max(0, calls_left.get(call.method.role, 0)),
            waited_s=now_s - self.added_s,
            priority=self.request.priority,
            unbatched=self.request.reproducible,
        )

    def start(self) -> None:
        """Run the pipeline up to its first call of a module."""
        self._coroutine.start()

    def resume(self, answer: Any) -> None:
        """Answer the parked call with a result or an exception, and run to the next call."""
        if self.call.method.role == "denoiser":
            self._denoised += 1
            self._view.observe(self.call)
            if not isinstance(answer, Exception):
                answer = self._logged(answer)
        self._device_s += self.call.device_s
        self._coroutine.resume(answer)

    def _logged(self, answer: Any) -> Any:
        """Log the answer and return it; return the error if the log finds no memory for it."""
        try:
            self._log.append(answer)
        except torch.OutOfMemoryError as error:
            return error.with_traceback(None)
        return answer

    def replayed(self) -> Any:
        """Return the checkpoint's answer to the parked call, or None."""
        return self._log.replay(self.call)

    def preview(self) -> Preview | None:
        """Return a preview of the first picture; None before the first step or if it fails."""
        answer, pixels = self._log.last, None
        with contextlib.suppress(Exception):  # a failed preview must not stop other jobs' previews
            pixels = None if answer is None else self._view.preview(answer)
        return None if pixels is None else Preview(self.progress[0], pixels)

    def cancel(self) -> Cancelled:
        """Unwind the pipeline and return the outcome."""
        self._coroutine.unwind()
        return Cancelled(self.request.id)

    def drain(self) -> Drained:
        """Unwind the pipeline and return a checkpoint."""
        self._coroutine.unwind()
        return Drained(self.request.id, self._log.steps, self._log.pack())

    def outcome(self) -> Outcome:
        """Return the outcome of a job that is done."""
        request, error = self.request, self.error
        if error is not None:
            message = str(error) or type(error).__name__
            return Failed(request.id, faults.code(error), message)
        return Finished(
            id=request.id,
            pixels=self._coroutine.result,
            seeds=tuple(range(request.seed, request.seed + request.num_images)),
            device_s=self._device_s,
            steps=request.num_inference_steps,
        )

    @property
    def _denoiser_calls(self) -> int:
        return max(1, self._view.denoiser_calls or self.request.num_inference_steps)
