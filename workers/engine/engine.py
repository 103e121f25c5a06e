"""The engine: choose a group of parked calls, run it as one forward, resume its jobs."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from workers.engine import faults, memory_profiler, policy, rows
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

# While warming up, larger sizes are tried as long as each row becomes at least this much cheaper.
WORTHWHILE = 0.05
# Other jobs may overtake a job whose model finds no room for this long; then none of them starts.
PATIENCE_S = 5.0


class Engine:
    """Renders many requests at once on one device.

    Not thread-safe, and bound to a thread: the thread that calls `step` owns the device and makes
    every other call too. `swapper` holds the models that are not on the device. `clock` returns
    seconds and times the forwards. `choose` is the policy. `compiling` may be read from any thread:
    it is true during a step one of whose forwards may first be compiled, which can take minutes, or
    captured.
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
            name: EncoderCache(model.memo_bytes) for name, model in models.items()
        }
        self._on_cuda = torch.cuda.is_available()
        self._waiting: dict[str, Job] = {}
        self._in_flight: dict[str, Job] = {}
        self.stats = Stats()
        self.compiling = False

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Queue a request, to resume from `checkpoint` if there is one.

        Raise BadRequest for a request that cannot run or is here already, and BadCheckpoint.
        """
        if request.model not in self._models:
            raise BadRequest("unknown_model", "model", f"there is no model {request.model!r}")
        if request.id in self._waiting or request.id in self._in_flight:
            raise BadRequest("duplicate_id", "id", f"job {request.id} is here already")
        model = self._models[request.model]
        self._waiting[request.id] = Job(request, model, checkpoint, self._clock())

    def cancel(self, job_id: str) -> bool:
        """Make a job leave at the next step, which reports it; False if it is not here."""
        job = self._waiting.get(job_id) or self._in_flight.get(job_id)
        if job is not None:
            job.cancelled = True
        return job is not None

    @torch.no_grad()  # unwinding restores the grad mode in which the job began
    def drain(self) -> list[Drained]:
        """Make every job leave with a checkpoint; afterwards the engine is empty."""
        jobs = [*self._in_flight.values(), *self._waiting.values()]
        self._in_flight.clear()
        self._waiting.clear()
        return [job.drain() for job in jobs]

    @torch.no_grad()  # grad mode is per thread, not per greenlet
    def step(self) -> list[Outcome]:
        """Run one forward and resume the jobs that shared it; return the jobs that ended.

        Raise DeviceLost when the device has failed: no job of this engine can continue then.
        """
        self.compiling = False
        ended = self._leave()
        self._enter()
        group = self._choose()
        for job, answer in zip(group, self._run([job.call for job in group]), strict=True):
            if not isinstance(answer, Exception):
                self._encoder_caches[job.request.model].put(job.call, answer)
            job.resume(answer)
            self._skip_known(job)
        return ended + self._collect()

    @torch.no_grad()
    def warm_up(self, request: Request, budget_s: float = 10.0) -> None:
        """Learn T(rows) for the calls of this request, in doubling sizes as long as that pays.

        The first forwards of a shape are slow; now no job waits for them. It takes `budget_s` and
        the time of the last measurement. Compiling takes as long as it takes.
        """
        job = Job(replace(request, num_inference_steps=2), self._models[request.model])
        self._ensure_on_device(job)
        job.start()
        until_s = self._clock() + budget_s
        while not job.done:
            job.resume(self._measure(job.call, until_s))
        if job.error is not None:
            raise job.error
        self.stats = Stats()

    def _measure(self, call: Call, until_s: float) -> Any:
        """Run a call, stacked with copies of itself, in sizes that are not measured yet.

        A compiled module is compiled for all of these sizes, however long it takes, while no job
        waits.
        """
        answer = self._run([call])[0]
        count, best_s, compiled = 1, math.inf, call.method.bucketed
        if compiled and call.rows > 1 and not call.method.unbatched:
            self._run([call.split()[0]])
        while not (call.method.unbatched or isinstance(answer, Exception)):
            rows_, most = count * call.rows, self._costs.limit(call.signature)
            if rows_ > (rows.bucket(most) if compiled else most):
                break
            if self._clock() >= until_s and not compiled:
                break
            for _ in range(0 if rows_ in self._costs.measured(call.signature) else 3):
                self._run([call] * count)
            each_s = self._costs.seconds(call.signature, rows_) / rows_
            if each_s > best_s * (1 - WORTHWHILE) and not compiled:
                break
            count, best_s = count * 2, each_s
        return answer

    @property
    def idle(self) -> bool:
        """Whether `step` would have nothing to do."""
        return not self._waiting and not self._in_flight

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Return (steps done, steps requested) of every job here."""
        return {name: job.progress for name, job in (self._in_flight | self._waiting).items()}

    @torch.no_grad()
    def previews(self, job_ids: Sequence[str]) -> dict[str, Preview]:
        """Return previews of these jobs, where they are here and have begun.

        This waits for the device.
        """
        here = {name: self._in_flight[name] for name in job_ids if name in self._in_flight}
        made = {name: job.preview() for name, job in here.items()}
        return {name: preview for name, preview in made.items() if preview is not None}

    def summary(self) -> dict[str, Any]:
        """Return the statistics so far, as JSON: forwards and rows by role, rows per forward."""
        return {
            "forwards": dict(self.stats.forwards),
            "rows": dict(self.stats.rows),
            "mean_rows": round(self.stats.mean_rows, 2),
            "resident": self._swapper.resident,
            "batching": {
                name: "step" if model.batched else "none" for name, model in self._models.items()
            },
        }

    def _leave(self) -> list[Outcome]:
        """Take out the cancelled jobs."""
        ended: list[Outcome] = []
        for jobs in (self._waiting, self._in_flight):
            cancelled = [name for name, job in jobs.items() if job.cancelled]
            ended += [jobs.pop(name).leave() for name in cancelled]
        return ended

    def _enter(self) -> None:
        """Start the jobs whose turn it is."""
        names = list(self._waiting)
        waiting = [job.entrant for job in self._waiting.values()]
        starts = policy.admit(waiting, [job.entrant for job in self._in_flight.values()])
        for name in [names[place] for place in starts]:
            job = self._waiting[name]
            if not self._ensure_on_device(job):
                if self._clock() - job.added_s > PATIENCE_S:
                    return  # otherwise jobs behind it would keep the other models busy without end
                continue
            self._in_flight[name] = self._waiting.pop(name)
            job.start()
            self._skip_known(job)

    def _ensure_on_device(self, job: Job) -> bool:
        """Load the job's model onto the device; False if models in use leave no room."""
        busy = {other.request.model for other in self._in_flight.values()}
        before = set(self._swapper.resident)
        there = self._swapper.ensure_on_device(job.request.model, busy)
        for left in before.difference(self._swapper.resident):
            self._encoder_caches[left].clear()  # its result is on the device, too
        self._costs.peaks.free_bytes = self._swapper.free_bytes
        return there

    def _choose(self) -> list[Job]:
        """Choose the group of parked calls that share the next forward."""
        now_s = self._clock()
        parked = [job.parked(now_s) for job in self._in_flight.values() if not job.done]
        return [self._in_flight[name] for name in self._policy(parked, self._costs)]

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        """Run a group as one forward; return for each call its result or an exception."""
        if not calls:
            return []
        try:
            return self._forward(calls)
        except Exception as error:  # a module may raise anything
            if faults.poisoned(error):
                raise DeviceLost(str(error)) from error
            fault = error.with_traceback(
                None
            )  # the traceback would hold the tensors that did not fit
        if faults.out_of_memory(fault):
            self._costs.refuse(calls[0].signature, sum(call.rows for call in calls))
            torch.cuda.empty_cache()
        return self._retry_in_halves(calls, fault)

    def _retry_in_halves(self, calls: Sequence[Call], fault: Exception) -> list[Any]:
        """Retry with half the rows, down to the single row that is at fault."""
        if len(calls) > 1:
            middle = len(calls) // 2
            return self._run(calls[:middle]) + self._run(calls[middle:])
        call = calls[0]
        if call.rows == 1 or call.options.reproducible:  # the bits of its rows depend on the cut
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
            self.compiling |= not self._costs.seen(calls[0].signature, method.same_bucket(count))
        results = self._run_measured(calls, count)
        if self._on_cuda:
            torch.cuda.synchronize()  # for the measurement, and to meet a device fault here
        ended_s = self._clock()
        seconds = ended_s - started_s
        self._costs.ran(started_s, ended_s)
        self._costs.observe(calls[0].signature, count, seconds)
        self.stats.forwards[method.role] += 1
        self.stats.rows[method.role] += count
        for call in calls:
            call.device_s += seconds * call.rows / count
        return results

    def _run_measured(self, calls: Sequence[Call], count: int) -> list[Any]:
        """Run a forward; where memory is limited, learn how much it takes."""
        method, key, peaks = calls[0].method, calls[0].signature, self._costs.peaks
        # Compiled code must not be intercepted, but on CUDA the allocator shows its memory.
        compiled = method.bucketed and calls[0].plain
        measurable = self._on_cuda or not (compiled or peaks.known(key, count))
        if peaks.free_bytes is None or not measurable:
            return rows.run(calls)
        results: list[Any]
        results, peak = memory_profiler.peak_bytes(lambda: rows.run(calls), on_cuda=self._on_cuda)
        peaks.observe(key, count, peak)
        return results

    def _skip_known(self, job: Job) -> None:
        """Answer calls from the job's checkpoint and the encoder cache, as long as they can."""
        memo = self._encoder_caches[job.request.model]
        while not job.done:
            known = job.recorded()
            if known is None and (known := memo.get(job.call)) is not None:
                self.stats.cache_hits[job.call.method.role] += 1
            if known is None:
                return
            job.resume(known)

    def _collect(self) -> list[Outcome]:
        """Take out the jobs that are done."""
        done = [
            self._in_flight.pop(name) for name, job in list(self._in_flight.items()) if job.done
        ]
        for job in done:
            if job.error is not None and faults.poisoned(job.error):
                raise DeviceLost(str(job.error)) from job.error
        return [job.outcome() for job in done]
