"""The engine on an accelerator, with tiny models, so that the device may be shared."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from app.config.repository import REPOSITORY
from bench.gpu.serving import resumed, run
from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    failed,
    picture,
    request,
    run_until_idle,
    stock_pixels,
)
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from tests.unit.workers.pipelines.test_lora_adapters import save_lora
from workers.engine.request import Finished
from workers.pipelines.cuda_graphs import CudaGraphs
from workers.pipelines.loading import tune
from workers.pipelines.model import wrap
from workers.pipelines.schedulers import DIFFUSION, FLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_batched_equals_unbatched_on_the_device(family: str, *, graphs: bool) -> None:
    """All schedulers and tasks in one batch are within 1 of 255 of the unbatched pictures."""
    stock: Any = FAMILIES[family]().to("cuda")
    model = wrap(stock, name=family, graphs=graphs)
    mask = picture(2, "L").point(lambda level: 255 if level > 127 else 0)
    asked = []
    for name in DIFFUSION if family in ("sd", "sdxl") else FLOW:
        asked += [
            request(f"{name} text", family, scheduler=name),
            request(f"{name} image", family, scheduler=name, image=picture(1), strength=0.6),
            request(f"{name} mask", family, scheduler=name, image=picture(1), mask=mask),
        ]
    engine = engine_of({family: model}, max_rows=16)
    for one in asked:
        engine.add(one)
    outcomes = run_until_idle(engine)
    for one in asked:
        assert distance(outcomes[one.id], stock_pixels(stock, model, one)) <= 1, one.id


@pytest.mark.parametrize("family", FAMILIES)
def test_captured_forwards_survive_a_move_of_the_weights(family: str) -> None:
    """They are captured once and replayed; after a move they are captured again."""
    stock: Any = FAMILIES[family]().to("cuda")
    model = wrap(stock, name=family, graphs=True)
    denoiser = stock.unet if hasattr(stock, "unet") else stock.transformer
    launches = []
    denoiser.register_forward_hook(lambda *_: launches.append(1))
    first = run(engine_of({family: model}), [request("a", family, num_inference_steps=20)])
    capturing = len(launches)
    assert 0 < capturing < 10
    again = run(engine_of({family: model}), [request("a", family, num_inference_steps=20)])
    assert len(launches) == capturing
    model.weights.move("cpu")
    blockers = [torch.randn_like(weight, device="cuda") for weight in denoiser.parameters()]
    model.weights.move("cuda")
    moved = run(engine_of({family: model}), [request("a", family, num_inference_steps=20)])
    assert len(launches) == 2 * capturing
    assert np.array_equal(first["a"], again["a"])
    assert np.array_equal(first["a"], moved["a"])
    del blockers


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_reproducible_job_has_the_same_bits_in_any_mix(
    family: str, dtype: torch.dtype, *, graphs: bool
) -> None:
    """Its bits are equal in 20 mixes with random other jobs, and after a drain and a resume."""
    stock = FAMILIES[family]().to("cuda", dtype)
    models = {family: wrap(stock, name=family, graphs=graphs)}
    asked = request("asked", family, reproducible=True, num_inference_steps=6)
    truth = run(engine_of(models), [asked])["asked"]
    for mix in range(20):
        draw = random.Random(mix)  # noqa: S311 - a mix, not a secret
        others = [
            request(
                f"other {n}",
                family,
                seed=n,
                num_inference_steps=draw.randint(2, 8),
                guidance_scale=draw.choice((1.0, 4.0)),
                reproducible=draw.random() < 0.5,
            )
            for n in range(5)
        ]
        assert np.array_equal(run(engine_of(models), [asked, *others], draw)["asked"], truth), mix
    assert np.array_equal(resumed(models, replace(asked)), truth)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("compiled", ["blocks", "whole"])
@pytest.mark.parametrize("family", ["sd", "flux"])
def test_a_compiled_model_draws_what_the_eager_one_does(
    family: str, compiled: str, captures: Callable[[], list[Hashable]], *, graphs: bool
) -> None:
    """Padded to compiled sizes, single and batched, its pictures are within 2 of 255."""
    stock: Any = FAMILIES[family]().to("cuda")
    asked = [request(f"{n}", family, seed=n, num_inference_steps=3 + n) for n in range(3)]
    eager = run(engine_of({family: wrap(stock, name=family)}), asked)
    tune(stock, channels_last=family == "sd", attention="", compiled=compiled)
    model = wrap(stock, name=family, bucketed=True, graphs=graphs)
    engine = engine_of({family: model}, max_rows=4)
    engine.warm_up(asked[0])
    compiled_pixels = run(engine, asked)
    assert bool(captures()) is graphs
    assert max(int(np.abs(compiled_pixels[n].astype(int) - eager[n]).max()) for n in eager) <= 2


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_loras_do_not_disturb_captured_forwards(
    family: str, captures: Callable[[], list[Hashable]], tmp_path: Path
) -> None:
    """Loading and activating a LoRA, and a move to the host and back, change no plain picture."""
    folder = save_lora(family, tmp_path / "x", 0)
    stock: Any = FAMILIES[family]().to("cuda")
    model = wrap(stock, name=family, graphs=True, loras={"x": folder})
    plain = request("plain", family)
    with_lora = request("lora", family, loras=(("x", 1.0),))
    first = run(engine_of({family: model}), [plain])["plain"]
    captured = captures()
    assert captured
    changed = run(engine_of({family: model}), [with_lora])["lora"]
    assert np.abs(changed.astype(int) - first).max() > 2
    assert np.array_equal(run(engine_of({family: model}), [plain])["plain"], first)
    assert captures() == captured
    for device in ("cpu", "cuda"):
        model.weights.move(device)
    assert np.array_equal(run(engine_of({family: model}), [with_lora])["lora"], changed)
    assert np.array_equal(run(engine_of({family: model}), [plain])["plain"], first)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Hashable]]:
    """Return a function that lists the captured sizes of all models of the test."""
    instances: list[CudaGraphs] = []

    def spy(*arguments: Any) -> CudaGraphs:
        instances.append(CudaGraphs(*arguments))
        return instances[-1]

    monkeypatch.setattr("workers.pipelines.model.CudaGraphs", spy)
    return lambda: [
        (n, size)
        for n, graphs in enumerate(instances)
        for size, capture in graphs._captures.items()
        if capture
    ]


def test_a_poisoned_device_raises_device_lost() -> None:
    """A kernel that asserts poisons the device for the process: the engine raises DeviceLost."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.poison"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr


def test_out_of_memory_fails_only_one_job() -> None:
    """A request beyond the memory limit fails with `out_of_memory`; the other one finishes."""
    model = wrap(FAMILIES["sd"]().to("cuda"), name="sd")
    engine = engine_of({"sd": model})
    engine.add(request("huge", width=2048, height=2048, num_inference_steps=1))
    engine.add(request("small"))
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**28) / total)
    try:
        outcomes = run_until_idle(engine)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert failed(outcomes["huge"]).code == "out_of_memory"
    assert isinstance(outcomes["small"], Finished)
