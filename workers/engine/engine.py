"""Engine: continuous batching of pipelines, one forward a step: schedule, run, resume, collect."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from workers.engine import faults, memory_profiler, policy, rows, warm_up
from workers.engine.cost import Costs
from workers.engine.encoder_cache import EncoderCache
from workers.engine.job import Job
from workers.engine.request import BadRequest, DeviceLost
from workers.engine.stats import Stats
from workers.engine.swapper import ModelSwapper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workers.engine.model import Model, Preview
    from workers.engine.policy import Parked
    from workers.engine.request import Drained, Outcome, Request
    from workers.engine.rows import Call

# For this long, jobs of other models may pass a job whose model finds no room; then none may start.
PATIENCE_S = 5.0


class Engine:
    """Renders many requests at once on one device.

    Not thread-safe: the thread that calls `step` owns the device and must make all other calls.
    `max_rows` bounds the rows of a forward, `swapper` moves models to and from the device, `clock`
    returns seconds, and `choose` is the policy, which must not group unbatched jobs. Any thread may
    read `compiling`: it is true during a step that may have to compile or capture a forward first,
    which can take minutes.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        max_rows: int = 16,
        swapper: ModelSwapper | None = None,
        clock: Callable[[], float] = time.monotonic,
        choose: Callable[[Sequence[Parked], Costs], list[str]] = policy.choose,
    ) -> None:
        self._models = models
        self._policy = choose
        self._clock = clock
        self._costs = Costs(max_rows)
        self._swapper = swapper or ModelSwapper("cpu")
        self._costs.peaks.free_bytes = self._swapper.free_bytes
        self._encoder_caches = {
            name: EncoderCache(model.encoder_cache_bytes) for name, model in models.items()
        }
        self._on_cuda = torch.cuda.is_available()
        self._waiting: dict[str, Job] = {}
        self._in_flight: dict[str, Job] = {}
        self.stats = Stats()
        self.compiling = False

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Queue a request, to continue from `checkpoint` if there is one.

        Raise BadRequest if it cannot run or its id is in use, and BadCheckpoint.
        """
        if request.model not in self._models:
            raise BadRequest("unknown_model", "model", f"there is no model {request.model!r}")
        if request.id in self._waiting or request.id in self._in_flight:
            raise BadRequest("duplicate_id", "id", f"the engine already has a job {request.id}")
        model = self._models[request.model]
        self._waiting[request.id] = Job(request, model, checkpoint, self._clock())

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; the next step returns its outcome. False if the engine has no such job."""
        job = self._waiting.get(job_id) or self._in_flight.get(job_id)
        if job is not None:
            job.cancel_requested = True
        return job is not None

    @torch.no_grad()  # unwinding a pipeline restores the gradient mode that it began in
    def drain(self) -> list[Drained]:
        """Remove every job, with a checkpoint; afterwards the engine is empty."""
        jobs = [*self._in_flight.values(), *self._waiting.values()]
        self._in_flight.clear()
        self._waiting.clear()
        return [job.drain() for job in jobs]

    @torch.no_grad()  # the mode belongs to the thread, not to the greenlet: set it for all at once
    def step(self) -> list[Outcome]:
        """Run one forward and resume the jobs that shared it; return the jobs that ended.

        Raise DeviceLost if the device is poisoned: then no job of this engine can continue.
        """
        self.compiling = False
        cancelled = self._remove_cancelled()
        group = self._schedule()
        results = self._run([job.call for job in group])
        self._postprocess(group, results)
        return cancelled + self._collect()

    @torch.no_grad()
    def warm_up(self, request: Request, budget_s: float = 10.0) -> None:
        """Learn T(rows) for the calls of this request, doubling the rows as long as that pays.

        The first forwards of a shape are slow, and here no job waits for them. It may exceed
        `budget_s` by the forward that runs at that time, and by all of the compilation.
        """
        job = Job(replace(request, num_inference_steps=2), self._models[request.model])
        self._ensure_on_device(job)
        job.start()
        until_s = self._clock() + budget_s
        while not job.done:
            answer = warm_up.measure(
                job.call, self._costs, self._run, lambda: self._clock() >= until_s
            )
            job.resume(answer)
        if job.error is not None:
            raise job.error
        self.stats = Stats()

    @property
    def idle(self) -> bool:
        """Whether the engine has no job."""
        return not self._waiting and not self._in_flight

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Return (steps done, steps requested) of every job, by its id."""
        return {name: job.progress for name, job in (self._in_flight | self._waiting).items()}

    @torch.no_grad()
    def previews(self, job_ids: Sequence[str]) -> dict[str, Preview]:
        """Return previews of these jobs, without those that are unknown or before their first step.

        This waits for the device.
        """
        jobs = {name: self._in_flight[name] for name in job_ids if name in self._in_flight}
        previews = {name: job.preview() for name, job in jobs.items()}
        return {name: preview for name, preview in previews.items() if preview is not None}

    def summary(self) -> dict[str, Any]:
        """Return the engine's work so far, as JSON: forwards and rows by role, rows per forward."""
        return {
            "forwards": dict(self.stats.forwards),
            "rows": dict(self.stats.rows),
            "mean_rows": round(self.stats.mean_rows, 2),
            "resident": self._swapper.resident,
            "batching": {
                name: "step" if model.batched else "none" for name, model in self._models.items()
            },
        }

    def _remove_cancelled(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for jobs in (self._waiting, self._in_flight):
            cancelled = [name for name, job in jobs.items() if job.cancel_requested]
            outcomes += [jobs.pop(name).cancel() for name in cancelled]
        return outcomes

    def _schedule(self) -> list[Job]:
        """Admit waiting jobs; return the parked jobs that share the next forward."""
        self._admit()
        now_s = self._clock()
        parked = [job.parked(now_s) for job in self._in_flight.values() if not job.done]
        return [self._in_flight[name] for name in self._policy(parked, self._costs)]

    def _admit(self) -> None:
        names = list(self._waiting)
        waiting = [job.candidate for job in self._waiting.values()]
        starts = policy.admit(waiting, [job.candidate for job in self._in_flight.values()])
        for name in [names[place] for place in starts]:
            job = self._waiting[name]
            if not self._ensure_on_device(job):
                if self._clock() - job.added_s > PATIENCE_S:
                    return  # else the jobs behind it could keep the other models busy indefinitely
                continue
            self._in_flight[name] = self._waiting.pop(name)
            job.start()
            self._answer_known(job)

    def _ensure_on_device(self, job: Job) -> bool:
        """Load the job's model onto the device; False if models in use leave no room."""
        busy = {other.request.model for other in self._in_flight.values()}
        before = set(self._swapper.resident)
        loaded = self._swapper.ensure_on_device(job.request.model, busy)
        for evicted in before.difference(self._swapper.resident):
            self._encoder_caches[evicted].clear()  # its tensors are on the device, too
        self._costs.peaks.free_bytes = self._swapper.free_bytes
        return loaded

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        """Run a group as one forward; return for each call its result or an exception."""
        if not calls:
            return []
        try:
            return self._forward(calls)
        except Exception as error:  # a module may raise anything
            if faults.poisoned(error):
                raise DeviceLost(str(error)) from error
            fault = error.with_traceback(None)  # the traceback would keep the group's tensors
        if faults.out_of_memory(fault):
            self._costs.observe_out_of_memory(calls[0].signature, sum(call.rows for call in calls))
            torch.cuda.empty_cache()
        return self._retry_in_halves(calls, fault)

    def _retry_in_halves(self, calls: Sequence[Call], fault: Exception) -> list[Any]:
        """Run each half of the rows again, down to the single row that causes the fault."""
        if len(calls) > 1:
            middle = len(calls) // 2
            return self._run(calls[:middle]) + self._run(calls[middle:])
        call = calls[0]
        if call.rows == 1 or call.options.reproducible:  # smaller parts would give other bits
            return [fault]
        parts = call.split()
        results = [self._run([part])[0] for part in parts]
        call.device_s += sum(part.device_s for part in parts)
        faulty = next((result for result in results if isinstance(result, Exception)), None)
        return [faulty or rows.join(results, [part.rows for part in parts])]

    def _forward(self, calls: Sequence[Call]) -> list[Any]:
        """Run, time and count one forward; each call is charged for its rows."""
        method, count = calls[0].method, sum(call.rows for call in calls)
        started_s = self._clock()
        if calls[0].plain and (method.bucketed or method.captured):
            self.compiling |= not self._costs.has_run(calls[0].signature, method.same_bucket(count))
        results = self._run_measured(calls, count)
        if self._on_cuda:
            torch.cuda.synchronize()  # completes the time, and raises device faults here
        ended_s = self._clock()
        seconds = ended_s - started_s
        self._costs.observe_busy(started_s, ended_s)
        self._costs.observe(calls[0].signature, count, seconds)
        self.stats.forwards[method.role] += 1
        self.stats.rows[method.role] += count
        for call in calls:
            call.device_s += seconds * call.rows / count
        return results

    def _run_measured(self, calls: Sequence[Call], count: int) -> list[Any]:
        """Run a group; if memory is limited, learn the peak of a forward of this size."""
        method, key, peaks = calls[0].method, calls[0].signature, self._costs.peaks
        # The tracker would break compiled code, but CUDA's allocator counts without it.
        compiled = method.bucketed and calls[0].plain
        measurable = self._on_cuda or not (compiled or peaks.known(key, count))
        if peaks.free_bytes is None or not measurable:
            return rows.run(calls)
        results: list[Any]
        results, peak = memory_profiler.peak_bytes(lambda: rows.run(calls), on_cuda=self._on_cuda)
        peaks.observe(key, count, peak)
        return results

    def _postprocess(self, group: Sequence[Job], results: Sequence[Any]) -> None:
        """Resume each job with its result, up to its next call without a known answer."""
        for job, result in zip(group, results, strict=True):
            if not isinstance(result, Exception):
                self._encoder_caches[job.request.model].put(job.call, result)
            job.resume(result)
            self._answer_known(job)

    def _answer_known(self, job: Job) -> None:
        """Answer a job's calls from its checkpoint and the encoder cache as long as they can."""
        cache = self._encoder_caches[job.request.model]
        while not job.done:
            known = job.replayed()
            if known is None and (known := cache.get(job.call)) is not None:
                self.stats.cache_hits[job.call.method.role] += 1
            if known is None:
                return
            job.resume(known)

    def _collect(self) -> list[Outcome]:
        """Remove the jobs that are done; return their outcomes."""
        done = [
            self._in_flight.pop(name) for name, job in list(self._in_flight.items()) if job.done
        ]
        for job in done:
            if job.error is not None and faults.poisoned(job.error):
                raise DeviceLost(str(job.error)) from job.error
        return [job.outcome() for job in done]
