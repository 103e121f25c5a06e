"""The denoiser's last training stage: learning from its own sampling.

A denoiser is trained on true pictures with noise. When it samples, it sees its own slightly wrong
pictures, and each step builds on the errors of the one before (exposure bias, arXiv:2301.11706; for
language models arXiv:1511.06732). Twenty steps then draw worse than one. Here it is trained in the
states that its own sampling passes through. If the prompt determines the picture, the true answer
in each state is known: to move on to the requested picture (as in DAgger, arXiv:1011.0686).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor

from models.scenes import denoiser
from models.scenes.courses import THINGS_EXTRA, DenoiserCourse
from models.scenes.pool import render
from models.scenes.scene import LESSONS, Scene, sample_scene

SETTLED = replace(
    LESSONS, counted=0.2, placed=0.15, related=0.65, motif=0.0, patterned=0.5, gradient=0.6
)
"""The scenes that it draws for itself: the prompt determines their picture; mostly two things, and
gradients.
"""
STEPS, GUIDANCE = (10, 20, 20), (1.5, 2.5)
SAMPLERS = (DPMSolverMultistepScheduler, EulerDiscreteScheduler)
"""The numbers of steps, the guidance and the samplers that it draws with."""
AT_FIRST, KEPT = 8, 16
"""Batches drawn before training starts, and batches whose states are kept."""
RENEWED = 50
"""Training steps before one more batch is drawn."""


class FinishCourse(DenoiserCourse):
    """The denoiser learns from its own states with half of each batch."""

    name = "finish"

    @cached_property
    def own(self) -> States:
        """The states that its sampling passed through."""
        return States(KEPT * self.batch * max(STEPS))

    def loss(self, step: int) -> Tensor:
        """Return weighted squared errors: of the velocity, and of the picture in its own states."""
        self._renew(LESSONS, step, self.batch // 2)
        for _ in range(AT_FIRST if not self.own.scenes else step % RENEWED == 0):
            self._draw()
        scenes, latents = self.pool.take(self.batch // 2)
        noised, steps, velocities = self.lesson.ask(latents)
        own_scenes, states, own_steps, pictures = self.own.take(self.batch - self.batch // 2)
        answers = self.unet(
            torch.cat([noised, states]).contiguous(memory_format=torch.channels_last),
            torch.cat([steps, own_steps]),
            encoder_hidden_states=self._words([*self._heard(scenes), *map(self._say, own_scenes)]),
            return_dict=False,
        )[0]
        fresh, own = answers.float().split([len(noised), len(states)])
        # From a state x = a z + s e and a velocity v = a e - s z follows the picture z = a x - s v.
        signal, noise = (
            table[own_steps].view(-1, 1, 1, 1) for table in (self.lesson.signal, self.lesson.noise)
        )
        return 0.5 * (
            self.lesson.loss(fresh, velocities, latents, THINGS_EXTRA)
            + self.lesson.loss(noise * own, signal * states - pictures, pictures, THINGS_EXTRA)
        )

    @torch.no_grad()
    def _draw(self) -> None:
        """Sample one more batch of scenes and keep each state on the way."""
        scenes = [sample_scene(self.rng, SETTLED) for _ in range(self.batch)]
        with torch.autocast(self.device.type, enabled=False):
            pictures = self.vae.encoder(render(scenes, self.rng, self.device)).float()
        words = self._words([*([""] * len(scenes)), *map(self._say, scenes)])
        kind = self.rng.choice(SAMPLERS)
        scheduler: Any = kind.from_config(denoiser.build_scheduler().config)
        scheduler.set_timesteps(self.rng.choice(STEPS), device=self.device)
        guidance = self.rng.uniform(*GUIDANCE)
        state = torch.randn_like(pictures) * scheduler.init_noise_sigma
        for step in scheduler.timesteps:
            seen = scheduler.scale_model_input(state, step)
            self.own.add(scenes, seen, step, pictures)
            twice = torch.cat([seen, seen]).contiguous(memory_format=torch.channels_last)
            without, with_words = (
                self.model(twice, step, encoder_hidden_states=words, return_dict=False)[0]
                .float()
                .chunk(2)
            )
            answer = without + guidance * (with_words - without)
            state = scheduler.step(answer, step, state, return_dict=False)[0]


class States:
    """States of sampling, with their scenes and the requested pictures."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.scenes: list[Scene] = []
        self.states = self.pictures = torch.empty(0, 4, 16, 16)
        self.steps = torch.empty(0, dtype=torch.long)

    def add(self, scenes: list[Scene], states: Tensor, step: Tensor, pictures: Tensor) -> None:
        """Store `states` (n, 4, 16, 16), all at one timestep; a full store drops the oldest."""
        latest = slice(-self.size, None)
        steps = step.long().expand(len(scenes))
        self.scenes = [*self.scenes, *scenes][latest]
        self.states = torch.cat([self.states.to(states), states])[latest]
        self.steps = torch.cat([self.steps.to(steps), steps])[latest]
        self.pictures = torch.cat([self.pictures.to(pictures), pictures])[latest]

    def take(self, count: int) -> tuple[list[Scene], Tensor, Tensor, Tensor]:
        """Return a random batch: scenes, states, timesteps and pictures."""
        at = torch.randint(len(self.scenes), (count,)).tolist()
        return [self.scenes[i] for i in at], self.states[at], self.steps[at], self.pictures[at]
