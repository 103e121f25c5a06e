"""Interleavings: jobs are added, cancelled, faulty or moved in any order, and none is lost."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tests.unit.workers.engine.reference import request
from workers.engine.engine import Engine
from workers.engine.park import Proxy
from workers.engine.request import Cancelled, Failed, Finished, Outcome, Request
from workers.engine.rows import Call, ModuleMethod

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_THAT_FIT = 5
FAULTY = -1.0


class Doubler(torch.nn.Module):
    """A denoiser that doubles its rows; too many rows or a faulty row raise an error."""

    def __init__(self) -> None:
        super().__init__()
        self.rows_done = 0

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return twice the sample."""
        assert timestep.shape == (len(sample),)
        if len(sample) > ROWS_THAT_FIT:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if (sample < 0).any():
            raise RuntimeError("a faulty row")
        self.rows_done += len(sample)
        return sample * 2


class Loop:
    """The minimal view for the engine: a loop around a denoiser, without previews."""

    denoiser_calls = None

    def __init__(self, unet: Proxy, asked: Request) -> None:
        self.unet, self.asked = unet, asked

    def render(self) -> list[NDArray[np.uint8]]:
        """Double the prompt's number at each step; the result is the level of each picture."""
        sample = torch.full((self.asked.num_images, 1), float(self.asked.prompt))
        for step in range(self.asked.num_inference_steps):
            sample = self.unet(sample, step)
        return [np.full((2, 2, 3), level, np.uint8) for level in sample.flatten().tolist()]

    def observe(self, call: Call) -> None:
        """Ignore the call."""

    def preview(self, answer: torch.Tensor) -> None:
        """Return no preview."""


class Model:
    """The minimal model for the engine: see `workers.engine.model`."""

    name = "toy"
    batched = True
    encoder_cache_bytes = 0

    def __init__(self) -> None:
        self.denoiser = Doubler()
        method = ModuleMethod.of("toy.unet.forward", "denoiser", self.denoiser)
        self.unet = Proxy(self.denoiser, {"forward": method})

    def view(self, asked: Request) -> Loop:
        """Return a new view."""
        return Loop(self.unet, asked)


class Interleavings(RuleBasedStateMachine):
    """Adds, cancels, steps and moves in any order, and tracks every job."""

    jobs: Bundle[str] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.engine = self._engine()
        self.asked: dict[str, Request] = {}
        self.cancelled: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}

    def _engine(self) -> Engine:
        return Engine({"toy": self.model}, max_rows=7, clock=itertools.count().__next__)

    @rule(
        target=jobs,
        start=st.sampled_from([1.0, 2.0, 3.0, FAULTY]),
        steps=st.integers(1, 5),
        images=st.integers(1, 3),
        priority=st.integers(-1, 1),
        exclusive=st.booleans(),
    )
    def add(self, start: float, steps: int, images: int, priority: int, *, exclusive: bool) -> str:
        """Add a job; one in four is faulty."""
        job = f"job {len(self.asked)}"
        self.asked[job] = request(
            job,
            "toy",
            prompt=str(start),
            num_inference_steps=steps,
            num_images=images,
            priority=priority,
            exclusive=exclusive,
        )
        self.engine.add(self.asked[job])
        return job

    @rule(job=consumes(jobs))
    def cancel(self, job: str) -> None:
        """Cancel a job, which may have ended."""
        present = self.engine.cancel(job)
        assert present == (job not in self.outcomes)
        if present:
            self.cancelled.add(job)

    @rule()
    def step(self) -> None:
        """Run one step of the engine."""
        for outcome in self.engine.step():
            assert outcome.id not in self.outcomes, "a job ended twice"
            self.outcomes[outcome.id] = outcome

    @rule()
    def move(self) -> None:
        """Drain the engine, and resume its jobs in another one."""
        drained = self.engine.drain()
        assert {job.id for job in drained} == self.asked.keys() - self.outcomes.keys()
        assert self.engine.idle
        self.engine = self._engine()
        for job in drained:
            self.engine.add(self.asked[job.id], checkpoint=job.checkpoint)
            if job.id in self.cancelled:
                self.engine.cancel(job.id)

    @invariant()
    def every_job_is_present_or_has_ended(self) -> None:
        """A job is in the engine until its outcome is reported, never in both places."""
        present = set(self.engine.progress())
        assert present | set(self.outcomes) == set(self.asked)
        assert not present & set(self.outcomes)

    def teardown(self) -> None:
        """Run to the end: each job has the right outcome, and no row ran twice."""
        steps = 0
        while not self.engine.idle:
            self.step()
            steps += 1
            assert steps < 1000, "a job starves"
        self.every_job_is_present_or_has_ended()
        for job, asked in self.asked.items():
            self._check(asked, self.outcomes[job])
        rows = sum(
            asked.num_inference_steps * asked.num_images
            for job, asked in self.asked.items()
            if isinstance(self.outcomes[job], Finished)
        )
        most = sum(asked.num_inference_steps * asked.num_images for asked in self.asked.values())
        assert rows <= self.model.denoiser.rows_done <= most
        if not self.cancelled:
            assert self.model.denoiser.rows_done == rows

    def _check(self, asked: Request, outcome: Outcome) -> None:
        if asked.id in self.cancelled:
            assert outcome == Cancelled(asked.id)
        elif float(asked.prompt) == FAULTY:
            assert outcome == Failed(asked.id, "render_failed", "a faulty row")
        else:
            assert isinstance(outcome, Finished)
            level = float(asked.prompt) * 2**asked.num_inference_steps
            assert len(outcome.pixels) == asked.num_images
            for image in outcome.pixels:
                assert np.array_equal(image, np.full((2, 2, 3), level, np.uint8))


Interleavings.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestInterleavings = Interleavings.TestCase
