"""One picture, from the call to its bytes: the model at 20 steps and its turbo variant at two.

    python -m bench.turbo [--pictures 20]

Both through the farm (submit over HTTP, wait, fetch the PNG) and bare: the stock pipeline in this
process, like a script. The four take turns, picture by picture.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from app.config.repository import REPOSITORY
from bench.farm.plan import PROMPTS
from bench.farm.rig import environment_without_farm, farm_up
from bench.farm.rounds import turned
from bench.figures import percentile
from bench.machine import commit, machine, versions
from models.scenes.evaluate import load
from renderfarm import Farm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MODELS = REPOSITORY / "models"
ASKED: dict[str, dict[str, Any]] = {
    "scenes": {"num_inference_steps": 20, "guidance_scale": 2.0, "scheduler": "dpmpp_2m"},
    "scenes-turbo": {"num_inference_steps": 2, "guidance_scale": 1.0, "scheduler": "lcm"},
}
TARGET_MS = 200


def main(argv: list[str]) -> int:
    """Measure, write `bench/results/turbo.{json,md}` and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20, help="of each strategy")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "bench" / "results")
    arguments = parser.parse_args(argv)
    environment_without_farm()
    result: dict[str, Any] = {"machine": machine(), "versions": versions(), "commit": commit()}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        access = farm_up(stack, folder / "farm", MODELS / "models.toml", tuple(ASKED), slots=4)
        farm = stack.enter_context(Farm(access["url"], access["api_key"]))
        strategies = {f"farm, {name}": through(farm, name) for name in ASKED}
        strategies |= {f"bare, {name}": bare(name) for name in ASKED}
        result["strategies"] = measure(strategies, arguments.pictures)
    arguments.results.mkdir(exist_ok=True)
    (arguments.results / "turbo.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.results / "turbo.md").write_text(page(result))
    print(page(result))
    return 0


def through(farm: Farm, model: str) -> Callable[[str, int], bytes]:
    """Draw with the SDK."""

    def draw(prompt: str, seed: int) -> bytes:
        return farm.render(prompt, model=model, seed=seed, cache=False, **ASKED[model]).bytes()

    return draw


def bare(model: str) -> Callable[[str, int], bytes]:
    """Draw with the stock pipeline."""
    pipeline = load(MODELS / model)  # its own scheduler is the requested one
    settings = {name: value for name, value in ASKED[model].items() if name != "scheduler"}

    def draw(prompt: str, seed: int) -> bytes:
        generator = torch.Generator("cpu").manual_seed(seed)
        content = io.BytesIO()
        pipeline(prompt, generator=generator, **settings).images[0].save(content, "PNG")
        return content.getvalue()

    return draw


def measure(
    strategies: Mapping[str, Callable[[str, int], bytes]], pictures: int
) -> dict[str, list[float]]:
    """Return the seconds of each picture by strategy, after one of each that does not count."""
    took: dict[str, list[float]] = {name: [] for name in strategies}
    for number in range(-1, pictures):
        for name in turned(list(strategies), number):
            began = time.perf_counter()
            strategies[name](PROMPTS[number % len(PROMPTS)], 1000 + number)
            if number >= 0:
                took[name].append(time.perf_counter() - began)
    return took


def page(result: Mapping[str, Any]) -> str:
    """Return the table: medians, 95th percentiles, and each picture's ratio to the bare model's."""
    strategies: Mapping[str, Sequence[float]] = result["strategies"]
    base = strategies["bare, scenes"]
    rows = [
        f"| {name} | {_ms(statistics.median(took))} | {_ms(percentile(took, 95))} "
        f"| {statistics.median(a / b for a, b in zip(took, base, strict=True)):.2f} |"
        for name, took in strategies.items()
    ]
    within = statistics.median(strategies["farm, scenes-turbo"]) * 1000 <= TARGET_MS
    about = result["machine"]
    return f"""# One picture, from the call to its bytes

Made by `python -m bench.turbo` at commit {result["commit"]} on {about["cpu"]}, {about["cores"]} cores, load
average {about["load_average"][0]}. {len(base)} pictures of 128x128 of each strategy, one at a time, in turns; `scenes` at
20 steps with guidance, `scenes-turbo` at 2 without.

| | median | 95th percentile | times the bare `scenes`, median |
|---|---|---|---|
{chr(10).join(rows)}

The aim of {TARGET_MS} ms from the call to the bytes is {"met" if within else "missed"} by the median of
`scenes-turbo` through the farm on this machine.
"""


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
