"""Training pictures: a ring buffer of latents that is renewed during training."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.scenes.draw import draw
from models.scenes.layout import place
from models.scenes.precision import onto
from models.scenes.scene import Mix, Scene, sample_scene

if TYPE_CHECKING:
    from collections.abc import Callable


def render(scenes: list[Scene], rng: random.Random, device: torch.device | str) -> Tensor:
    """Render pictures (n, 3, 128, 128) in [-1, 1] of the scenes, with a new layout."""
    return draw(scenes, [place(scene, rng) for scene in scenes], device) * 2 - 1


class Pool:
    """Scenes with their latents. Rendering each picture once and using it a few times is cheap."""

    def __init__(
        self,
        size: int,
        encode: Callable[[Tensor], Tensor],
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rng = random.Random(seed)
        self.chooser = torch.Generator().manual_seed(seed)
        self.encode = encode
        self.device = device
        self.scenes: list[Scene] = []
        self.latents = torch.empty(size, 4, 16, 16, device=device)
        self.oldest = 0

    @torch.no_grad()
    def renew(self, count: int, mix: Mix) -> None:
        """Draw `count` new scenes of the mix; they replace the oldest when the pool is full."""
        scenes = [sample_scene(self.rng, mix) for _ in range(count)]
        latents = self.encode(render(scenes, self.rng, self.device))
        for scene, latent in zip(scenes, latents, strict=True):
            if len(self.scenes) < len(self.latents):
                self.scenes.append(scene)
            else:
                self.scenes[self.oldest] = scene
            self.latents[self.oldest] = latent
            self.oldest = (self.oldest + 1) % len(self.latents)

    def take(self, count: int) -> tuple[list[Scene], Tensor]:
        """Return a random batch: scenes and their latents (count, 4, 16, 16)."""
        chosen = torch.randint(len(self.scenes), (count,), generator=self.chooser)
        return [self.scenes[index] for index in chosen], self.latents[
            onto(chosen, torch.device(self.device))
        ]
