"""Train the scenes model: `python -m models.scenes.train --preset small`.

The stages run in turn: the text encoder learns the words, the autoencoder the pictures, the
denoiser their connection and then its own sampling (`finish`), and the decoder is refined. Each
stage keeps a checkpoint in the work folder and resumes from it when the program is started again.
At the end the model is written to the output folder in the stock diffusers format.

`--make turbo`, `outline` or `edges` trains a variant of the finished model instead (`variants`).
"""

from __future__ import annotations

import argparse
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from models.scenes import variants
from models.scenes.courses import DenoiserCourse, PictureCourse, WordCourse
from models.scenes.drawn import drawn
from models.scenes.export import assemble, export, export_controlnet, export_lora
from models.scenes.finish import FinishCourse
from models.scenes.loop import Course, Plan, Trainer
from models.scenes.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

HOME = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Preset:
    """The plans of the stages, for one kind of machine."""

    words: Plan
    autoencoder: Plan
    denoiser: Plan
    finish: Plan
    decoder: Plan
    turbo: Plan
    outline: Plan
    edges: Plan
    workers: int
    """Processes of one thread each that share all stages of a denoiser; on CPUs only."""
    compiled: bool = True
    singles: float = 0.06
    """Share of the denoiser's stage spent on single things first."""
    drawn: int = 1_500
    """Prompts that the denoiser draws for the decoder's stage."""


PRESETS = {
    "small": Preset(
        words=Plan(1_200, 192, 1.5e-3),
        autoencoder=Plan(600, 24, 2e-3, weight_decay=0),
        denoiser=Plan(8_000, 32, 8e-4),
        finish=Plan(1_500, 32, 5e-4),
        decoder=Plan(3_000, 24, 1e-3, weight_decay=0),
        turbo=Plan(1_500, 32, 3e-4),
        outline=Plan(1_200, 32, 2e-3),
        edges=Plan(2_000, 32, 1e-3),
        workers=2,
        drawn=800,
    ),
    # One GPU, 20 minutes in all by the rates of an H200; launched kernel by kernel, because
    # compiling also takes minutes.
    "full": Preset(
        words=Plan(1_500, 256, 1.5e-3),
        autoencoder=Plan(1_000, 96, 2e-3, weight_decay=0),
        denoiser=Plan(6_000, 256, 1e-3),
        finish=Plan(800, 512, 5e-4),
        decoder=Plan(1_500, 96, 1e-3, weight_decay=0),
        turbo=Plan(3_000, 256, 3e-4),
        outline=Plan(1_500, 128, 2e-3),
        edges=Plan(3_000, 128, 1e-3),
        workers=1,
        compiled=False,
    ),
    "smoke": Preset(
        words=Plan(2, 8, 1e-3),
        autoencoder=Plan(2, 4, 1e-3, weight_decay=0),
        denoiser=Plan(2, 4, 1e-3),
        finish=Plan(2, 4, 1e-3),
        decoder=Plan(2, 4, 1e-3, weight_decay=0),
        turbo=Plan(2, 4, 1e-3),
        outline=Plan(2, 4, 1e-3),
        edges=Plan(2, 4, 1e-3),
        workers=1,
        compiled=False,
        drawn=8,
    ),
}


MODEL = ("words", "autoencoder", "denoiser", "finish", "decoder")
VARIANTS: dict[str, Callable[[Parts, int, int], Course]] = {
    "turbo": variants.TurboCourse,
    "outline": variants.OutlineCourse,
    "edges": variants.EdgesCourse,
}
SHARED = ("denoiser", "finish", *VARIANTS)
"""Stages that several workers share."""


def main() -> None:
    """Run the unfinished stages, then export."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    preset = _preset(options)
    parts = _parts(options, device)
    model: nn.Module = parts.unet
    for name in _courses(options):
        if name in SHARED and device.type == "cpu" and preset.workers > 1:
            _teach_together(name, options, preset.workers)
        model = _teach(name, parts, options, preset)
    options.out.mkdir(parents=True, exist_ok=True)
    _write(parts, model, options)
    print(f"written to {options.out}")


def _courses(options: argparse.Namespace) -> tuple[str, ...]:
    if options.make != "model":
        return (options.make,)
    return MODEL[2:] if options.start else MODEL


def _write(parts: Parts, model: nn.Module, options: argparse.Namespace) -> None:
    """Save the result in the stock format of its kind."""
    if options.make == "outline":
        export_lora(model, options.out)
    elif options.make == "edges":
        export_controlnet(model, options.out)
    elif options.make == "turbo":
        export(variants.turbo_pipeline(parts), options.out)
    else:
        export(assemble(parts.vae, parts.tokenizer, parts.encoder, parts.unet), options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--make", choices=("model", *VARIANTS), default="model")
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--work", type=Path, default=Path("var/train/scenes"), help="checkpoints")
    parser.add_argument(
        "--out", type=Path, help="the folder to write; models/scenes or its variant's"
    )
    parser.add_argument("--start", type=Path, help="a model to go on from, such as models/scenes")
    parser.add_argument(
        "--new-denoiser",
        "--anew",
        dest="new_denoiser",
        action="store_true",
        help="keep only the words and the autoencoder of --start",
    )
    parser.add_argument("--denoiser-steps", type=int, help="instead of the preset's")
    parser.add_argument("--finish-steps", type=int, help="instead of the preset's; 0 for none")
    parser.add_argument("--decoder-steps", type=int, help="instead of the preset's; 0 for none")
    parser.add_argument("--steps", type=int, help="of a variant's course, instead of the preset's")
    parser.add_argument("--eager", action="store_true", help="compile nothing: for short courses")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    variant = options.make != "model"
    options.out = options.out or (HOME.with_name(f"scenes-{options.make}") if variant else HOME)
    options.start = options.start or (HOME if variant else None)
    return options


def _preset(options: argparse.Namespace) -> Preset:
    """Return the preset with the options applied; a trained denoiser skips single things."""
    preset = PRESETS[options.preset]
    for name in ("denoiser", "finish", "decoder"):
        if (steps := getattr(options, f"{name}_steps")) is not None:
            plan = replace(getattr(preset, name), steps=steps)
            preset = replace(preset, **{name: plan})
    if options.make != "model" and options.steps is not None:
        plan = replace(getattr(preset, options.make), steps=options.steps)
        preset = replace(preset, **{options.make: plan})
    preset = replace(preset, compiled=preset.compiled and not options.eager)
    return replace(preset, singles=0.0) if options.start and not options.new_denoiser else preset


def _parts(options: argparse.Namespace, device: torch.device) -> Parts:
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    if not options.start:
        return Parts.new(device)
    shipped = Parts.shipped(options.start, device)
    return shipped.with_new_denoiser(device) if options.new_denoiser else shipped


def _teach(
    name: str, parts: Parts, options: argparse.Namespace, preset: Preset, rank: int = 0
) -> nn.Module:
    plan: Plan = getattr(preset, name)
    course = _course(name, parts, preset, options.seed + 97 * rank)
    if isinstance(course, PictureCourse) and course.name == "decoder" and plan.steps:
        pipeline = assemble(parts.vae, parts.tokenizer, parts.encoder, parts.unet)
        course.drawn = drawn(pipeline, preset.drawn, options.seed, options.work / "drawn.pt")
    Trainer(course, plan, options.work, options.seed).run()
    return course.model.requires_grad_(False).eval()


def _course(name: str, parts: Parts, preset: Preset, seed: int) -> Course:
    batch = getattr(preset, name).batch
    if name in VARIANTS:
        return VARIANTS[name](parts, batch, seed)
    if name == "words":
        return WordCourse(parts.tokenizer, parts.encoder, batch, seed)
    given = (parts.unet, parts.vae, parts.tokenizer, parts.encoder)
    if name == "denoiser":
        singles = int(preset.singles * preset.denoiser.steps)
        return DenoiserCourse(
            *given, batch=batch, singles_until=singles, seed=seed, compiled=preset.compiled
        )
    if name == "finish":
        return FinishCourse(*given, batch=batch, seed=seed, compiled=preset.compiled)
    parts.vae.requires_grad_(True)
    return PictureCourse(
        parts.vae,
        batch=batch,
        seed=seed,
        decoder_only=name == "decoder",
        compiled=preset.compiled,
    )


def _teach_together(name: str, options: argparse.Namespace, workers: int) -> None:
    """Run one stage in several processes; they leave its checkpoint."""
    (options.work / "meeting").unlink(missing_ok=True)
    spawn(  # type: ignore[no-untyped-call]
        _worker, args=(workers, name, options), nprocs=workers
    )


def _worker(rank: int, workers: int, name: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    file = options.work.resolve() / "meeting"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=workers
    )
    preset, device = _preset(options), torch.device("cpu")
    parts = _parts(options, device)
    courses = _courses(options)
    for before in courses[: courses.index(name)]:
        course = _course(before, parts, preset, options.seed)
        Trainer(course, getattr(preset, before), options.work, options.seed).run()
    _teach(name, parts, options, preset, rank)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
