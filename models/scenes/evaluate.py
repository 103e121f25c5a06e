"""Evaluate the scenes model: `python -m models.scenes.evaluate`.

It draws held-out prompts with the stock pipeline. The judge says which of the requested
backgrounds, colours, shapes, counts, places and relations are there. The judge's own figures, on
the renderer's pictures and after a round trip through the autoencoder, are reported too.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
from collections import Counter
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from numpy.typing import NDArray
from tqdm import tqdm

from models.scenes.captions import caption
from models.scenes.judge import verdict
from models.scenes.pool import render
from models.scenes.scene import Mix, Scene, sample_scene
from models.scenes.sheet import contact_sheet
from models.scenes.sight import look

if TYPE_CHECKING:
    from PIL import Image

HOME = Path(__file__).parent
SCHEDULERS = {
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
}
JUDGED = Mix(motif=0.0)
"""Everything except motifs, which do not consist of countable things."""
SWEPT = 100
"""Prompts for each setting except the first."""
Pictures = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Setting:
    """One sampling configuration."""

    steps: int = 20
    guidance: float = 2.0
    scheduler: str = "euler"


def load(folder: Path = HOME) -> StableDiffusionPipeline:
    """Return the stock pipeline in fp32, from the folder only."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def prompts(count: int, seed: int = 2026) -> list[tuple[Scene, str]]:
    """Return scenes with captions; every fifth has a colour, shape and count never trained on."""
    rng = random.Random(seed)
    scenes = [sample_scene(rng, JUDGED, unseen=index % 5 == 0) for index in range(count)]
    return [(scene, caption(scene, rng)) for scene in scenes]


def sample(
    pipeline: StableDiffusionPipeline, captions: list[str], setting: Setting, batch: int = 25
) -> Pictures:
    """Return pictures (n, 128, 128, 3); picture n comes from seed n."""
    kind = getattr(diffusers, SCHEDULERS[setting.scheduler])
    # DDIM clips to [-1, 1] unless it is told that these are latents.
    latents = {"clip_sample": False} if "clip_sample" in signature(kind).parameters else {}
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **latents)
    made = []
    for start in tqdm(range(0, len(captions), batch), desc=str(setting), leave=False):
        part = captions[start : start + batch]
        seeds = range(start, start + len(part))
        made.append(
            pipeline(
                part,
                num_inference_steps=setting.steps,
                guidance_scale=setting.guidance,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
        )
    return to_bytes(np.concatenate(made))


def to_bytes(pictures: NDArray[np.floating[Any]]) -> Pictures:
    """Convert from [0, 1] to 0..255."""
    return (pictures * 255).round().clip(0, 255).astype(np.uint8)


def score(scenes: list[Scene], pictures: Pictures) -> dict[str, float]:
    """Return per point the share of the scenes with this point in whose picture it holds."""
    asked, held = Counter[str](), Counter[str]()
    for scene, picture in zip(scenes, pictures, strict=True):
        for point, holds in verdict(scene, look(picture)).items():
            asked[point] += 1
            held[point] += holds
    return {point: round(held[point] / asked[point], 4) for point in asked}


def truth(scenes: list[Scene], seed: int = 0) -> Pictures:
    """Return the renderer's own pictures of the scenes."""
    drawn = render(scenes, random.Random(seed), "cpu")
    return to_bytes((drawn.permute(0, 2, 3, 1).numpy() + 1) / 2)


@torch.no_grad()
def round_trip(vae: AutoencoderTiny, pictures: Pictures) -> Pictures:
    """Return pictures after encoding and decoding."""
    made = []
    for start in range(0, len(pictures), 25):
        part = torch.from_numpy(pictures[start : start + 25])
        scaled = part.permute(0, 3, 1, 2).float() / 127.5 - 1
        decoded = vae.decode(vae.encode(scaled).latents).sample
        made.append(decoded.clamp(-1, 1).permute(0, 2, 3, 1).numpy())
    return to_bytes((np.concatenate(made) + 1) / 2)


def main() -> None:
    """Evaluate the requested settings; write `evaluation.json` and grids."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    pipeline = load(options.folder)
    asked = prompts(options.prompts)
    scenes, captions = [scene for scene, _ in asked], [words for _, words in asked]
    drawn = truth(scenes)
    report: dict[str, Any] = {
        "prompts": len(asked),
        "machine": {"processor": platform.machine(), "torch": torch.__version__},
        "judge on truth": score(scenes, drawn),
        "judge on round trip": score(scenes, round_trip(pipeline.vae, drawn)),
        "runs": [],
    }
    for index, setting in enumerate(_settings(options)):
        count = SWEPT if index and not options.turbo else len(asked)
        pictures = sample(pipeline, captions[:count], setting)
        report["runs"].append(_run(setting, scenes[:count], pictures))
        print(json.dumps(report["runs"][-1]), flush=True)
        name = f"grid-{setting.scheduler}-{setting.steps}-{setting.guidance:g}.png"
        contact_sheet(list(pictures[:64]), captions[:64]).save(options.out / name)
        (options.out / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    first = _settings(options)[0]
    _gallery(pipeline, first).save(options.out / "gallery.png")


def _run(setting: Setting, scenes: list[Scene], pictures: Pictures) -> dict[str, Any]:
    return {
        **asdict(setting),
        "prompts": len(scenes),
        **score(scenes, pictures),
        "unseen": score(scenes[::5], pictures[::5]),
    }


def _gallery(pipeline: StableDiffusionPipeline, setting: Setting, count: int = 64) -> Image.Image:
    """Return pictures of everything the model knows, also motifs, with their captions."""
    rng = random.Random(64)
    captions = [caption(sample_scene(rng), rng) for _ in range(count)]
    return contact_sheet(list(sample(pipeline, captions, setting)), captions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the scenes model.")
    parser.add_argument("--folder", type=Path, default=HOME)
    parser.add_argument("--out", type=Path, default=Path("var/evaluation/scenes"))
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--sweep", action="store_true", help="step counts, guidance, schedulers")
    parser.add_argument("--turbo", action="store_true", help="two, one and four steps, no guidance")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> list[Setting]:
    if options.turbo:
        return [Setting(steps, 1.0, "lcm") for steps in (2, 1, 4)]
    if not options.sweep:
        return [Setting()]
    return [
        Setting(),
        *(Setting(guidance=guidance) for guidance in (1.0, 4.0)),
        Setting(steps=10),
        Setting(steps=5),
        *(Setting(scheduler=name) for name in SCHEDULERS if name not in ("euler", "lcm")),
    ]


if __name__ == "__main__":
    main()
