"""Make the scenes model: `python -m models.scenes.train --preset small`.

The courses are taken in turn: the text encoder learns the words, the autoencoder the pictures, the
denoiser how they go together, and the decoder is then polished. Each keeps a checkpoint in the
work folder and goes on from it when the program is started again. At the end the model is written
to the output folder in the stock diffusers format.
"""

from __future__ import annotations

import argparse
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from torch import distributed
from torch.multiprocessing.spawn import spawn

from models.scenes import autoencoder as eyes
from models.scenes import denoiser, words
from models.scenes.courses import DenoiserCourse, PictureCourse, WordCourse
from models.scenes.export import assemble, export
from models.scenes.loop import Course, Lessons, Plan

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

HOME = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Preset:
    """The plans of the four courses, for one kind of machine."""

    words: Plan
    autoencoder: Plan
    denoiser: Plan
    decoder: Plan
    workers: int
    """Processes of one thread each that share the denoiser's course; on CPUs only."""
    compiled: bool = True
    singles: float = 0.06
    """Share of the denoiser's course spent on single things first."""


PRESETS = {
    "small": Preset(
        words=Plan(1_200, 192, 1.5e-3),
        autoencoder=Plan(600, 24, 2e-3, weight_decay=0),
        denoiser=Plan(8_000, 48, 6e-4),
        decoder=Plan(3_000, 24, 1e-3, weight_decay=0),
        workers=2,
    ),
    "full": Preset(
        words=Plan(3_000, 256, 1.5e-3),
        autoencoder=Plan(3_000, 128, 2e-3, weight_decay=0),
        denoiser=Plan(30_000, 256, 1e-3),
        decoder=Plan(10_000, 128, 1e-3, weight_decay=0),
        workers=1,
    ),
    "smoke": Preset(
        words=Plan(2, 8, 1e-3),
        autoencoder=Plan(2, 4, 1e-3, weight_decay=0),
        denoiser=Plan(2, 4, 1e-3),
        decoder=Plan(2, 4, 1e-3, weight_decay=0),
        workers=1,
        compiled=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """The four parts of the pipeline, on one device."""

    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel
    vae: AutoencoderTiny
    unet: UNet2DConditionModel

    @classmethod
    def new(cls, device: torch.device) -> Parts:
        """Untrained parts."""
        tokenizer = words.build_tokenizer()
        encoder = words.build_encoder(tokenizer)
        return cls(tokenizer, encoder, eyes.build(), denoiser.build()).on(device)

    @classmethod
    def shipped(cls, folder: Path, device: torch.device) -> Parts:
        """The parts of a model made before, to be taught further."""
        made = StableDiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, safety_checker=None
        )
        eyes.keep_averages(made.vae)
        return cls(made.tokenizer, made.text_encoder, made.vae, made.unet).on(device)

    def on(self, device: torch.device) -> Parts:
        """The same parts, moved."""
        self.encoder.to(device)
        self.vae.to(device, memory_format=torch.channels_last)
        self.unet.to(device, memory_format=torch.channels_last)
        return self


def main() -> None:
    """Take the courses that are not finished, then export."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    preset = _preset(options)
    parts = _parts(options, device)
    names = ("words", "autoencoder", "denoiser", "decoder")
    for name in names[2:] if options.start else names:
        if name == "denoiser" and device.type == "cpu" and preset.workers > 1:
            _teach_together(options, preset.workers)
        _teach(name, parts, options, preset)
    pipeline = assemble(parts.vae, parts.tokenizer, parts.encoder, parts.unet)
    options.out.mkdir(parents=True, exist_ok=True)
    export(pipeline, options.out)
    print(f"written to {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--work", type=Path, default=Path("var/train/scenes"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=HOME, help="where the model is written")
    parser.add_argument("--start", type=Path, help="a model to go on from, such as models/scenes")
    parser.add_argument("--denoiser-steps", type=int, help="instead of the preset's")
    parser.add_argument("--decoder-steps", type=int, help="instead of the preset's; 0 only exports")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _preset(options: argparse.Namespace) -> Preset:
    """The preset with what the options change; a trained model needs no single things first."""
    preset = PRESETS[options.preset]
    for name in ("denoiser", "decoder"):
        if (steps := getattr(options, f"{name}_steps")) is not None:
            plan = replace(getattr(preset, name), steps=steps)
            preset = replace(preset, **{name: plan})
    return replace(preset, singles=0.0) if options.start else preset


def _parts(options: argparse.Namespace, device: torch.device) -> Parts:
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    return Parts.shipped(options.start, device) if options.start else Parts.new(device)


def _teach(
    name: str, parts: Parts, options: argparse.Namespace, preset: Preset, rank: int = 0
) -> None:
    plan: Plan = getattr(preset, name)
    course = _course(name, parts, preset, options.seed + 97 * rank)
    Lessons(course, plan, options.work, options.seed).run()
    course.student.requires_grad_(False).eval()


def _course(name: str, parts: Parts, preset: Preset, seed: int) -> Course:
    batch = getattr(preset, name).batch
    if name == "words":
        return WordCourse(parts.tokenizer, parts.encoder, batch, seed)
    if name == "denoiser":
        return DenoiserCourse(
            parts.unet,
            parts.vae,
            parts.tokenizer,
            parts.encoder,
            batch=batch,
            singles_until=int(preset.singles * preset.denoiser.steps),
            seed=seed,
            compiled=preset.compiled,
        )
    parts.vae.requires_grad_(True)
    return PictureCourse(
        parts.vae,
        batch=batch,
        seed=seed,
        decoder_only=name == "decoder",
        compiled=preset.compiled,
    )


def _teach_together(options: argparse.Namespace, workers: int) -> None:
    """The denoiser's course in several processes; its checkpoint is what they leave behind."""
    (options.work / "meeting").unlink(missing_ok=True)
    spawn(  # type: ignore[no-untyped-call]
        _worker, args=(workers, options), nprocs=workers
    )


def _worker(rank: int, workers: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    file = options.work.resolve() / "meeting"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=workers
    )
    preset, device = _preset(options), torch.device("cpu")
    parts = _parts(options, device)
    for name in () if options.start else ("words", "autoencoder"):
        course = _course(name, parts, preset, options.seed)
        Lessons(course, getattr(preset, name), options.work, options.seed).run()
    _teach("denoiser", parts, options, preset, rank)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
