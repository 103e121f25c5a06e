"""Draw the effect of the variants: `python -m models.scenes.showcase`.

Each sheet shows the same prompts and seeds twice: without and with the outline LoRA, and the input
edges above the pictures that follow them, with the share of matching edge pixels.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

from models.scenes import autoencoder
from models.scenes.captions import caption
from models.scenes.draw import draw
from models.scenes.evaluate import HOME, Pictures, Setting, load, sample, to_bytes
from models.scenes.layout import scatter
from models.scenes.scene import sample_scene
from models.scenes.sheet import contact_sheet
from models.scenes.variants import SCATTERED, THINGS

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = 8


def outlined(count: int, folder: Path) -> tuple[list[str], Pictures, Pictures]:
    """Return captions, and their pictures without and with the LoRA."""
    rng = random.Random(9)
    captions = [caption(sample_scene(rng, THINGS), rng) for _ in range(count)]
    pipeline = load()
    before = sample(pipeline, captions, Setting())
    pipeline.load_lora_weights(folder)
    return captions, before, sample(pipeline, captions, Setting())


def filled(pictures: Pictures) -> float:
    """Return the mean share of pixels that differ from their picture's border.

    The area of things.
    """
    rims = pictures[:, :2, :2].reshape(len(pictures), -1, 3).mean(1)
    away = np.abs(pictures.astype(np.float32) - rims[:, None, None]).max(-1)
    return float((away > 60).mean())


def guided(count: int, folder: Path) -> tuple[list[str], Tensor, Pictures, Pictures]:
    """Return captions, edges (n, 3, 128, 128), and pictures without and with the ControlNet."""
    rng = random.Random(10)
    scenes = [sample_scene(rng, SCATTERED) for _ in range(count)]
    captions = [caption(scene, rng) for scene in scenes]
    edges = autoencoder.outlines(draw(scenes, [scatter(scene, rng) for scene in scenes]))
    pipeline = load()
    before = sample(pipeline, captions, Setting())
    control = ControlNetModel.from_pretrained(folder, dtype=torch.float32)
    whole = StableDiffusionControlNetPipeline(**pipeline.components, controlnet=control)
    whole.set_progress_bar_config(disable=True)
    seeds = [torch.Generator("cpu").manual_seed(seed) for seed in range(count)]
    made = whole(captions, image=edges, generator=seeds, guidance_scale=2.0,
                 num_inference_steps=20, output_type="np")  # fmt: skip
    return captions, edges, before, to_bytes(made.images)


def edge_match(edges: Tensor, pictures: Pictures) -> float:
    """Return the share of the input's edge pixels that are edge pixels of the pictures."""
    drawn = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    asked = edges[:, :1].bool()
    return float(autoencoder.edges(drawn).bool()[asked].float().mean())


def interleaved(*rows: Any) -> list[Any]:
    """Return the first `COLUMNS` of each row, then the next ones, for a sheet."""
    found: list[Any] = []
    for start in range(0, len(rows[0]), COLUMNS):
        for row in rows:
            found += list(row[start : start + COLUMNS])
    return found


def main() -> None:
    """Write both sheets and their figures."""
    parser = argparse.ArgumentParser(description="Draw what the variants change.")
    parser.add_argument("--outline", type=Path, default=HOME.with_name("scenes-outline"))
    parser.add_argument("--edges", type=Path, default=HOME.with_name("scenes-edges"))
    parser.add_argument("--out", type=Path, default=Path("var/evaluation/scenes"))
    parser.add_argument("--count", type=int, default=16)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    captions, before, after = outlined(options.count, options.outline)
    figures = {"filled before": filled(before), "filled with outline": filled(after)}
    blank = ["with the outline LoRA"] * len(captions)
    sheet = contact_sheet(interleaved(before, after), interleaved(captions, blank), COLUMNS)
    sheet.save(options.out / "outline.png")
    captions, edges, before, after = guided(options.count, options.edges)
    figures |= {"edges met before": edge_match(edges, before)}
    figures |= {"edges met with edges": edge_match(edges, after)}
    shown = to_bytes(edges.permute(0, 2, 3, 1).numpy())
    names = interleaved(["edges"] * len(captions), captions)
    contact_sheet(interleaved(shown, after), names, COLUMNS).save(options.out / "edges.png")
    figures = {name: round(value, 4) for name, value in figures.items()}
    (options.out / "variants.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
