"""Warm-up: compiled methods are compiled, and the times of all others are learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.workers.engine.reference import engine_of, request, run_until_idle
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from workers.pipelines.model import LoadedModel


def test_warm_up_learns_the_times_of_a_shape(models: dict[str, LoadedModel]) -> None:
    """Afterwards T(rows) is known for each doubled size up to the limit; the stats are empty."""
    engine = engine_of(models, max_rows=8)
    engine.warm_up(request("a"), budget_s=1e9)
    assert engine.idle
    assert not engine.stats.forwards
    measured = [engine._costs.measured(key) for key in engine._costs._times_s]
    assert {2, 4, 8} in [set(times) for times in measured]


def test_warm_up_compiles_all_sizes(
    hook_denoiser: Callable[[Callable[..., Any]], None],
    stock: dict[str, Any],
) -> None:
    """Even with a budget of 0 seconds, no power of two of rows is compiled while a job waits."""
    model = wrap(stock["sd"], name="sd", bucketed=True)
    engine = engine_of({"sd": model}, max_rows=6)  # five and six rows are padded to eight
    sizes: list[int] = []
    compiling: list[bool] = []

    def spy(sample: torch.Tensor) -> None:
        sizes.append(len(sample))
        compiling.append(engine.compiling)

    hook_denoiser(spy)
    engine.warm_up(request("warm-up"), budget_s=0.0)
    assert set(sizes) == {1, 2, 4, 8}
    assert compiling[sizes.index(8)]
    compiling.clear()
    for seed in range(4):
        engine.add(request(str(seed), seed=seed, guidance_scale=1.0 if seed == 3 else 4.0))
    run_until_idle(engine)
    assert compiling
    assert not any(compiling)


def test_a_compiled_unbatched_model_is_not_padded(
    hook_denoiser: Callable[[Callable[..., Any]], None],
    stock: dict[str, Any],
) -> None:
    """It may mix padding rows into the pictures, so each of its sizes is compiled."""
    model = wrap(stock["sd"], name="sd", batched=False, bucketed=True)
    engine = engine_of({"sd": model})
    engine.warm_up(request("warm-up"))
    forwards: list[tuple[int, bool]] = []
    hook_denoiser(lambda sample: forwards.append((len(sample), engine.compiling)))
    engine.add(request("a", num_images=3))
    run_until_idle(engine)
    assert {size for size, _ in forwards} == {6}
    assert forwards[0] == (6, True)
    assert not forwards[-1][1]


def test_an_unbatched_model_learns_its_times(
    hook_denoiser: Callable[[Callable[..., Any]], None],
    stock: dict[str, Any],
) -> None:
    """Equal calls have equal keys, and warm-up does not batch them."""
    model = wrap(stock["sd"], name="sd", batched=False)
    engine = engine_of({"sd": model})
    sizes: set[int] = set()
    hook_denoiser(lambda sample: sizes.add(len(sample)))
    engine.warm_up(request("warm-up"))
    assert sizes == {2}
    for seed in range(3):
        engine.add(request(str(seed), seed=seed, prompt=f"prompt {seed}"))
    run_until_idle(engine)
    keys = len(engine._costs._times_s)
    for seed in range(3, 6):
        engine.add(request(str(seed), seed=seed, prompt=f"prompt {seed}"))
    run_until_idle(engine)
    assert len(engine._costs._times_s) == keys
