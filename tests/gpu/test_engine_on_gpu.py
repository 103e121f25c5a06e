"""The engine on an accelerator: tiny models, so it fits beside anything."""

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
    picture,
    request,
    run_until_idle,
    stock_pixels,
)
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from tests.unit.workers.pipelines.test_extras import save_lora
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
def test_batched_equals_alone_on_the_device(family: str, *, graphs: bool) -> None:
    """Every scheduler and kind of work in one mixed run is within 1 of 255 of the lone picture."""
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
        finished = outcomes[one.id]
        assert isinstance(finished, Finished), finished
        assert distance(finished, stock_pixels(stock, model, one)) <= 1, one.id


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_forwards_outlive_a_move_of_the_weights(family: str) -> None:
    """They are recorded once, replayed after that, and once more when the model was away."""
    stock: Any = FAMILIES[family]().to("cuda")
    model = wrap(stock, name=family, graphs=True)
    denoiser = stock.unet if hasattr(stock, "unet") else stock.transformer
    launched = []
    denoiser.register_forward_hook(lambda *_: launched.append(1))
    first = run(engine_of({family: model}), [request("a", family, num_inference_steps=20)])
    recording = len(launched)
    assert 0 < recording < 10
    again = run(engine_of({family: model}), [request("a", family, num_inference_steps=20)])
    assert len(launched) == recording
    model.weights.move("cpu")
    held = [torch.randn_like(weight, device="cuda") for weight in denoiser.parameters()]
    model.weights.move("cuda")
    moved = run(engine_of({family: model}), [request("a", family, num_inference_steps=20)])
    assert len(launched) == 2 * recording
    assert np.array_equal(first["a"], again["a"])
    assert np.array_equal(first["a"], moved["a"])
    del held


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_reproducible_job_has_the_same_bits_in_any_company(
    family: str, dtype: torch.dtype, *, graphs: bool
) -> None:
    """In 20 mixes with strangers that join at random, and drained half-way and resumed."""
    stock = FAMILIES[family]().to("cuda", dtype)
    models = {family: wrap(stock, name=family, graphs=graphs)}
    asked = request("asked", family, reproducible=True, num_inference_steps=6)
    truth = run(engine_of(models), [asked])["asked"]
    for mix in range(20):
        draw = random.Random(mix)  # noqa: S311 - a mix, not a secret
        strangers = [
            request(
                f"stranger {n}",
                family,
                seed=n,
                num_inference_steps=draw.randint(2, 8),
                guidance_scale=draw.choice((1.0, 4.0)),
                reproducible=draw.random() < 0.5,
            )
            for n in range(5)
        ]
        assert np.array_equal(run(engine_of(models), [asked, *strangers], draw)["asked"], truth), (
            mix
        )
    assert np.array_equal(resumed(models, replace(asked)), truth)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("compiled", ["blocks", "whole"])
@pytest.mark.parametrize("family", ["sd", "flux"])
def test_a_compiled_model_draws_what_the_eager_one_does(
    family: str, compiled: str, records: Callable[[], list[Hashable]], *, graphs: bool
) -> None:
    """Filled up to compiled sizes, one after another and together: within 2 of 255."""
    stock: Any = FAMILIES[family]().to("cuda")
    asked = [request(f"{n}", family, seed=n, num_inference_steps=3 + n) for n in range(3)]
    eager = run(engine_of({family: wrap(stock, name=family)}), asked)
    tune(stock, channels_last=family == "sd", attention="", compiled=compiled)
    model = wrap(stock, name=family, bucketed=True, graphs=graphs)
    engine = engine_of({family: model}, max_rows=4)
    engine.warm_up(asked[0])
    made = run(engine, asked)
    assert bool(records()) is graphs
    assert max(int(np.abs(made[n].astype(int) - eager[n]).max()) for n in eager) <= 2


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_loras_come_and_go_beside_recorded_forwards(
    family: str, records: Callable[[], list[Hashable]], tmp_path: Path
) -> None:
    """Reading and wearing one, and a move to the host and back, leave the plain picture as it was."""
    folder = save_lora(family, tmp_path / "x", 0)
    stock: Any = FAMILIES[family]().to("cuda")
    model = wrap(stock, name=family, graphs=True, loras={"x": folder})
    plain, worn = request("plain", family), request("worn", family, loras=(("x", 1.0),))
    first = run(engine_of({family: model}), [plain])["plain"]
    recorded = records()
    assert recorded
    dressed = run(engine_of({family: model}), [worn])["worn"]
    assert np.abs(dressed.astype(int) - first).max() > 2
    assert np.array_equal(run(engine_of({family: model}), [plain])["plain"], first)
    assert records() == recorded
    for device in ("cpu", "cuda"):
        model.weights.move(device)
    assert np.array_equal(run(engine_of({family: model}), [worn])["worn"], dressed)
    assert np.array_equal(run(engine_of({family: model}), [plain])["plain"], first)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Hashable]]:
    """Tell which sizes of which forwards are recorded, of all models that the test makes."""
    made: list[CudaGraphs] = []

    def note(*given: Any) -> CudaGraphs:
        made.append(CudaGraphs(*given))
        return made[-1]

    monkeypatch.setattr("workers.pipelines.model.CudaGraphs", note)
    return lambda: [
        (n, size)
        for n, graphs in enumerate(made)
        for size, found in graphs._captures.items()
        if found
    ]


def test_a_poisoned_device_is_found_out() -> None:
    """A kernel that asserts loses the device for the whole process: the engine says `DeviceLost`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.poison"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr


def test_memory_that_ends_fails_one_job_and_not_its_mates() -> None:
    """A request beyond what this process may take fails with `out_of_memory`; the rest finish."""
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
    assert outcomes["huge"].code == "out_of_memory"
    assert isinstance(outcomes["small"], Finished)
