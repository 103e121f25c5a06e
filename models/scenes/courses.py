"""Training stages ("courses"): words, autoencoder, denoiser (and `finish`), decoder."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.scenes import autoencoder, denoiser
from models.scenes.captions import caption
from models.scenes.pool import Pool, render
from models.scenes.precision import onto
from models.scenes.scene import LESSONS, SINGLE, VIEWED, sample_scene
from models.scenes.words import LENGTH, Heads, encode, targets

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from models.scenes.scene import Mix, Scene

NO_WORDS = 0.1
"""Share of empty captions, for classifier-free guidance."""
THINGS_EXTRA = 1.0
"""How much more a cell of a thing counts than a cell of the backdrop."""
POOL = 40_000
"""Pictures per training batch."""
FIRST = 128
"""Batches in the pool before training starts."""
DRAWN_AT_ONCE = 512
"""Pictures per call of the renderer, whose memory is some tens of times as much."""
USES = 4
"""How often a picture is trained on before it leaves the pool."""


class WordCourse:
    """The text encoder learns to read every attribute of the scene from its caption."""

    name = "words"

    def __init__(
        self, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, batch: int, seed: int
    ) -> None:
        self.tokenizer, self.batch = tokenizer, batch
        self.rng = random.Random(seed)
        self.encoder = encoder
        self.heads = Heads(encoder.config.hidden_size).to(encoder.device)
        self.model: nn.Module = nn.ModuleDict({"encoder": encoder, "heads": self.heads})

    def loss(self, step: int) -> Tensor:
        """Return the cross-entropy of all heads, at the caption's end and after it."""
        del step
        scenes = [sample_scene(self.rng) for _ in range(self.batch)]
        ids = encode(self.tokenizer, [caption(scene, self.rng) for scene in scenes])
        ends = (ids == self.tokenizer.eos_token_id).int().argmax(1)
        later = ends + 1 + (torch.rand(self.batch) * (LENGTH - 1 - ends)).long()
        states = self.encoder(ids.to(self.encoder.device)).last_hidden_state
        answers = targets(scenes).to(self.encoder.device)
        rows = torch.arange(self.batch)
        losses = [
            F.cross_entropy(logits.float(), answer)
            for at in (ends, later.clamp(max=LENGTH - 1))
            for logits, answer in zip(self.heads(states[rows, at]), answers, strict=True)
        ]
        return torch.stack(losses).sum()


class PictureCourse:
    """The autoencoder learns to draw crisp pictures from latents; optionally only the decoder."""

    WINDOW = 10
    """Side of a decoded cut-out in latents, around an edge, where there is something to learn."""

    def __init__(
        self,
        model: AutoencoderTiny,
        *,
        batch: int,
        seed: int,
        decoder_only: bool,
        compiled: bool,
    ) -> None:
        self.name = "decoder" if decoder_only else "autoencoder"
        self.drawn: tuple[Tensor, Tensor] | None = None
        self.model, self.batch, self.pool = model, batch, 80 * batch
        model.encoder.requires_grad_(not decoder_only)
        self.rng = random.Random(seed)
        self.decoder = _faster(model.decoder, compiled=compiled)
        self.pictures: Tensor | None = None

    def _draw(self, count: int) -> Tensor:
        scenes = [sample_scene(self.rng, VIEWED) for _ in range(count)]
        parts = [scenes[at : at + DRAWN_AT_ONCE] for at in range(0, count, DRAWN_AT_ONCE)]
        return torch.cat([render(part, self.rng, self.model.device) for part in parts])

    def _pictures(self, step: int) -> Tensor:
        """Return a batch from a pool that is renewed in parts."""
        if self.pictures is None:
            self.pictures = self._draw(self.pool)
        elif step % 20 == 0:
            fresh = self._draw(self.batch * 20 // USES)
            self.pictures = torch.cat([self.pictures[len(fresh) :], fresh])
        return self.pictures[torch.randint(len(self.pictures), (self.batch,))]

    def loss(self, step: int) -> Tensor:
        """Return the reconstruction error; keep a fourth channel of unit variance."""
        chosen = self._pictures(step)
        with torch.autocast(chosen.device.type, enabled=False):
            latents = self.model.encoder(chosen)
        if self.drawn is not None:
            chosen, latents = _half_of(self.drawn, chosen, latents)
        windows = autoencoder.edge_windows(chosen, self.WINDOW)
        cut = torch.stack(
            [x[:, top, left] for x, (top, left) in zip(latents, windows, strict=True)]
        )
        wanted, judged = autoencoder.cut_outs(chosen, windows)
        decoded = self.decoder(autoencoder.noisy(cut).contiguous(memory_format=torch.channels_last))
        error = autoencoder.reconstruction_loss(
            torch.where(judged, decoded.float(), wanted), wanted
        )
        learned = latents[:, autoencoder.FIXED :].float()
        loss: Tensor = error + 0.1 * (learned.mean().square() + (learned.std() - 1).square())
        return loss


def _half_of(
    drawn: tuple[Tensor, Tensor], pictures: Tensor, latents: Tensor
) -> tuple[Tensor, Tensor]:
    """Return pictures and latents, half of them from the denoiser's own drawings."""
    half = len(pictures) // 2
    at = torch.randint(len(drawn[0]), (half,))
    return torch.cat([pictures[half:], drawn[1][at]]), torch.cat([latents[half:], drawn[0][at]])


class DenoiserCourse:
    """The denoiser learns which latents belong to which words: single things first, then all."""

    name = "denoiser"

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderTiny,
        tokenizer: CLIPTokenizer,
        encoder: CLIPTextModel,
        *,
        batch: int,
        seed: int,
        compiled: bool,
        singles_until: int = 0,
    ) -> None:
        self.model: nn.Module = unet.requires_grad_(True)
        self.vae, self.device = vae, unet.device
        self.tokenizer, self.encoder = tokenizer, encoder
        self.batch, self.singles_until = batch, singles_until
        self.rng = random.Random(seed)
        if self.device.type == "cpu":
            denoiser.plain_attention(unet)
        self.unet = _faster(unet, compiled=compiled)
        self.lesson = denoiser.Lesson(self.device)
        self.pool = Pool(POOL, vae.encoder, seed, self.device)

    def loss(self, step: int) -> Tensor:
        """Return the weighted squared error of the predicted velocity."""
        self._renew(SINGLE if step < self.singles_until else LESSONS, step, self.batch)
        scenes, latents = self.pool.take(self.batch)
        noised, steps, velocities = self.lesson.ask(latents)
        answers = self.unet(
            noised.contiguous(memory_format=torch.channels_last),
            steps,
            encoder_hidden_states=self._words(self._heard(scenes)),
            return_dict=False,
        )[0]
        return self.lesson.loss(answers, velocities, latents, THINGS_EXTRA)

    def _renew(self, mix: Mix, step: int, used: int) -> None:
        """Add true pictures to train on, some of them new."""
        while len(self.pool.scenes) < min(FIRST * self.batch, POOL):
            self.pool.renew(256, mix)
        if step % USES == 0:
            self.pool.renew(used, mix)

    def _say(self, scene: Scene) -> str:
        return caption(scene, self.rng)

    def _heard(self, scenes: list[Scene]) -> list[str]:
        """Return captions of the scenes; some of them are empty."""
        said = [self._say(scene) for scene in scenes]
        return ["" if self.rng.random() < NO_WORDS else words for words in said]

    @torch.no_grad()
    def _words(self, captions: list[str]) -> Tensor:
        ids = onto(encode(self.tokenizer, captions), self.encoder.device)
        states: Tensor = self.encoder(ids).last_hidden_state
        return states.float()


def _faster(module: nn.Module, *, compiled: bool) -> nn.Module:
    """Return the module compiled, with the same weights, if the stage is long enough."""
    return torch.compile(module) if compiled else module  # type: ignore[return-value]
