"""A benchmark of one model with given settings: seconds for each picture, and pixel error."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from app.catalog.entries import COMPILED
from app.errors import summary
from workers.device.build import options
from workers.engine.engine import Engine
from workers.engine.request import EngineError, Finished, Outcome, Request
from workers.pipelines.loading import load
from workers.pipelines.probe import everyone
from workers.tune.search import Measured

if TYPE_CHECKING:
    from pathlib import Path

    from app.catalog.entries import Model, Speed

PROMPTS = (
    "a red circle on a blue background",
    "two green stars above a yellow square",
    "a portrait of an old fisherman, oil on canvas",
    "a city street at night in the rain",
)


class Bench:
    """Measures one model on one device; all pictures are compared with those of the first run."""

    def __init__(self, model: Model, base: Path, *, device: str, steps: int, rounds: int) -> None:
        self._model = model
        self._base = base
        self._device = device
        self._steps = steps
        self._rounds = rounds
        self._reference: list[np.ndarray] | None = None

    def measure(self, speed: Speed) -> Measured:
        """Load the model with these settings, render one batch, and take the best time."""
        try:
            pictures, picture_s = self._render(speed)
        except (RuntimeError, ValueError, TypeError, ImportError, OSError, EngineError) as error:
            return Measured(error=summary(error)[:120])
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if self._reference is None:
            self._reference = pictures
        difference = np.abs(np.stack(pictures).astype(int) - np.stack(self._reference))
        return Measured(picture_s, int(difference.max()), float(difference.mean()))

    def _render(self, speed: Speed) -> tuple[list[np.ndarray], float]:
        decoder = (self._base / speed.decoder).resolve() if speed.decoder else None
        model = replace(self._model, speed=speed, decoder=decoder)
        if model.path is None:
            raise ValueError("a null model cannot be tuned")
        loaded = load(model.path, name=model.name, device=self._device, **options(model))
        engine = Engine({model.name: loaded}, choose=everyone)
        pictures = self._render_batch(engine)  # the first run compiles and allocates
        best_s = math.inf
        for _ in range(self._rounds):
            started_s = time.perf_counter()
            pictures = self._render_batch(engine)
            best_s = min(best_s, time.perf_counter() - started_s)
        return pictures, best_s / len(pictures)

    def _render_batch(self, engine: Engine) -> list[np.ndarray]:
        defaults, outcomes = self._model.defaults, dict[str, Outcome]()
        for number, prompt in enumerate(PROMPTS):
            engine.add(
                Request(
                    id=str(number),
                    model=self._model.name,
                    prompt=prompt,
                    width=defaults.width,
                    height=defaults.height,
                    num_inference_steps=self._steps,
                    guidance_scale=defaults.guidance_scale,
                    scheduler=defaults.scheduler,
                    seed=number,
                )
            )
        while not engine.idle:
            outcomes |= {outcome.id: outcome for outcome in engine.step()}
        pictures = []
        for _, outcome in sorted(outcomes.items()):
            if not isinstance(outcome, Finished):
                raise EngineError(f"no picture: {outcome}")
            pictures += outcome.pixels
        return pictures


def plain(speed: Speed) -> Speed:
    """Return the settings without any optimization, whose pictures are the reference."""
    return replace(
        speed,
        dtype="float32",
        channels_last=False,
        compile="",
        graphs=False,
        attention="",
        decoder="",
    )


def switches(model: Model, device: str) -> dict[str, list[object]]:
    """Return the values to try for each setting, in the order of the trials."""
    on_cuda = device != "cpu"
    attention = ["native", "_native_cudnn", "_native_flash", "_native_efficient", "flash", "sage"]
    tried: dict[str, list[object]] = {
        "dtype": ["bfloat16", "float16"],
        "channels_last": [True],
        "attention": list(attention if on_cuda else ["_native_math"]),
        **({"graphs": [True]} if on_cuda else {}),
        "compile": [mode for mode in COMPILED if mode],
    }
    if model.speed.decoder:
        tried["decoder"] = [model.speed.decoder]
    return tried | {"prompt_cache_mb": [model.speed.prompt_cache_mb or 256, 0]}
