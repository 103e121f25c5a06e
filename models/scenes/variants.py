"""Variants of the finished model: a fast model, a style, and a guide for outlines.

- `turbo` draws in one to four steps without guidance. If the prompt determines the picture, it
  learns this picture from pure noise. If not, as with a house that may stand slightly to the left,
  the mean of all pictures would be a blur, so it learns what its teacher, the model, makes of the
  same noise with guidance (knowledge distillation, arXiv:2101.02388). It also learns the way back
  from any noise, for the sampler of consistency models (arXiv:2310.04378).
- `outline` is a LoRA (arXiv:2106.09685) of the denoiser: things are drawn as outlines.
- `edges` is a ControlNet (arXiv:2302.05543): things are drawn where the given edges are.
"""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from diffusers import ControlNetModel, LCMScheduler
from peft import LoraConfig
from torch import Tensor, nn

from models.scenes import autoencoder, denoiser
from models.scenes.captions import caption
from models.scenes.courses import NO_WORDS, THINGS_EXTRA
from models.scenes.draw import draw
from models.scenes.export import assemble
from models.scenes.layout import place, scatter
from models.scenes.pool import render
from models.scenes.scene import LESSONS, Mix, Scene, sample_scene
from models.scenes.words import encode

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    from models.scenes.parts import Parts

GUIDANCE, TEACHER_STEPS = 2.0, 10
"""How the teacher samples for the turbo model."""
QUICK = replace(LESSONS, motif=0.25)
"""The turbo model's mix: more motifs, because only there does it learn from the teacher."""
STROKE_PX = 9.0
THINGS = Mix(motif=0.0)
SCATTERED = Mix(
    counted=1.0, placed=0.0, related=0.0, motif=0.0, patterned=0.1, max_count=3, sized=False
)


class Variant:
    """Shared by the stages here: words, training examples and one seeded random generator."""

    def __init__(self, parts: Parts, batch: int, seed: int) -> None:
        self.parts, self.batch = parts, batch
        self.rng = random.Random(seed)
        self.device = parts.unet.device
        self.lesson = denoiser.Lesson(self.device)
        if self.device.type == "cpu":
            denoiser.plain_attention(parts.unet)
        parts.unet.requires_grad_(False)

    def scenes(self, mix: Mix, count: int) -> tuple[list[Scene], list[str]]:
        """Return scenes of the mix with their captions; some captions are empty."""
        drawn = [sample_scene(self.rng, mix) for _ in range(count)]
        words = [caption(scene, self.rng) for scene in drawn]
        return drawn, ["" if self.rng.random() < NO_WORDS else each for each in words]

    @torch.no_grad()
    def words(self, captions: list[str]) -> Tensor:
        """Return the captions' states (n, 32, width)."""
        ids = encode(self.parts.tokenizer, captions).to(self.device)
        states: Tensor = self.parts.encoder(ids).last_hidden_state
        return states.float()

    @torch.no_grad()
    def latents(self, pictures: Tensor) -> Tensor:
        """Return the autoencoder's latents of pictures in [0, 1]."""
        with torch.autocast(self.device.type, enabled=False):
            found: Tensor = self.parts.vae.encoder(pictures * 2 - 1)
        return found


class TurboCourse(Variant):
    """A copy of the denoiser learns to reach the finished picture at once."""

    name = "turbo"
    POOL, FIRST, USES = 128, 16, 4
    """Batches kept, batches before training starts, and steps before one more is drawn."""

    def __init__(self, parts: Parts, batch: int, seed: int) -> None:
        super().__init__(parts, batch, seed)
        teacher = copy.deepcopy(parts.unet)
        self.teacher = assemble(parts.vae, parts.tokenizer, parts.encoder, teacher)
        self.model: nn.Module = parts.unet.requires_grad_(True)
        self.captions: list[str] = []
        self.pairs = torch.empty(0, 2, 4, 16, 16, device=self.device)

    def loss(self, step: int) -> Tensor:
        """Return errors: from pure noise to its picture; from less noise the way back."""
        if step % self.USES == 0:
            self._renew()
        while len(self.captions) < self.FIRST * self.batch:
            self._renew()
        at = torch.randint(len(self.captions), (self.batch,)).tolist()
        noise, pictures = self.pairs[at].unbind(1)
        noised, steps, velocities = self.lesson.ask(pictures)
        first = torch.rand(self.batch, device=self.device) < 0.5
        steps = torch.where(first, denoiser.TRAIN_STEPS - 1, steps)
        start = first[:, None, None, None]
        noised = torch.where(start, noise, noised)
        velocities = torch.where(start, -pictures, velocities)
        answers = self.model(
            noised.contiguous(memory_format=torch.channels_last),
            steps,
            encoder_hidden_states=self.words([self.captions[index] for index in at]),
            return_dict=False,
        )[0]
        return self.lesson.loss(answers, velocities, pictures, THINGS_EXTRA)

    @torch.no_grad()
    def _renew(self) -> None:
        """Draw some more; they replace the oldest when there are enough."""
        scenes = [sample_scene(self.rng, QUICK) for _ in range(self.batch)]
        captions = [caption(scene, self.rng) for scene in scenes]
        noise = torch.randn(self.batch, 4, 16, 16, device=self.device)
        made = self.latents((render(scenes, self.rng, self.device) + 1) / 2)
        if free := [index for index, scene in enumerate(scenes) if scene.motif]:
            made[free] = self._as_the_teacher([captions[index] for index in free], noise[free])
        kept = slice(-self.POOL * self.batch, None)
        self.captions = [*self.captions, *captions][kept]
        self.pairs = torch.cat([self.pairs, torch.stack([noise, made], 1)])[kept]

    def _as_the_teacher(self, captions: list[str], noise: Tensor) -> Tensor:
        """Return the latents that the teacher makes of this noise."""
        made: Tensor = self.teacher(
            captions,
            latents=noise,
            num_inference_steps=TEACHER_STEPS,
            guidance_scale=GUIDANCE,
            output_type="latent",
        ).images
        return made.float()


class OutlineCourse(Variant):
    """A low-rank change of the denoiser learns to draw outlines."""

    name = "outline"
    RANK = 8
    LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")

    def __init__(self, parts: Parts, batch: int, seed: int) -> None:
        super().__init__(parts, batch, seed)
        lora = LoraConfig(r=self.RANK, lora_alpha=self.RANK, target_modules=list(self.LAYERS))
        parts.unet.add_adapter(lora, adapter_name="outline")
        self.model: nn.Module = parts.unet

    def loss(self, step: int) -> Tensor:
        """Return the weighted squared error of the predicted velocity."""
        del step
        scenes, captions = self.scenes(THINGS, self.batch)
        layouts = [place(scene, self.rng) for scene in scenes]
        latents = self.latents(draw(scenes, layouts, self.device, stroke_px=STROKE_PX))
        noised, steps, velocities = self.lesson.ask(latents)
        answers = self.model(
            noised.contiguous(memory_format=torch.channels_last),
            steps,
            encoder_hidden_states=self.words(captions),
            return_dict=False,
        )[0]
        return self.lesson.loss(answers, velocities, latents, THINGS_EXTRA)


class EdgesCourse(Variant):
    """A small ControlNet learns to put things where the edges are."""

    name = "edges"

    def __init__(self, parts: Parts, batch: int, seed: int) -> None:
        super().__init__(parts, batch, seed)
        net = build_edges(parts.unet).to(self.device, memory_format=torch.channels_last)
        self.model: nn.Module = net

    def loss(self, step: int) -> Tensor:
        """Return the weighted squared error of the velocity that the guided denoiser predicts."""
        del step
        scenes, captions = self.scenes(SCATTERED, self.batch)
        pictures = draw(scenes, [scatter(scene, self.rng) for scene in scenes], self.device)
        latents, edges = self.latents(pictures), autoencoder.outlines(pictures)
        noised, steps, velocities = self.lesson.ask(latents)
        noised, words = noised.contiguous(memory_format=torch.channels_last), self.words(captions)
        down, middle = self.model(
            noised, steps, encoder_hidden_states=words, controlnet_cond=edges, return_dict=False
        )
        answers = self.parts.unet(
            noised,
            steps,
            encoder_hidden_states=words,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return self.lesson.loss(answers, velocities, latents, THINGS_EXTRA)


def build_edges(unet: UNet2DConditionModel) -> ControlNetModel:
    """Return an untrained ControlNet for the denoiser, small because it need not read words."""
    wide = unet.config.block_out_channels
    return ControlNetModel(
        down_block_types=("DownBlock2D",) * len(wide),
        mid_block_type="UNetMidBlock2D",
        block_out_channels=wide,
        layers_per_block=unet.config.layers_per_block,
        norm_num_groups=unet.config.norm_num_groups,
        cross_attention_dim=unet.config.cross_attention_dim,
        conditioning_embedding_out_channels=(8, 16, 32, 64),
    )


def turbo_pipeline(parts: Parts) -> StableDiffusionPipeline:
    """Return the stock pipeline around the model, with the sampler of consistency models."""
    pipeline = assemble(parts.vae, parts.tokenizer, parts.encoder, parts.unet)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    return pipeline
