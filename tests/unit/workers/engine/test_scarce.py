"""Small things that go wrong beside the forwards cost one job, or none, and never the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tests.unit.workers.engine.reference import distance, engine_of, request, run_until_idle
from tests.unit.workers.engine.test_encoder_cache import ROW, call
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine import encoder_cache as encoder_caches
from workers.engine.encoder_cache import EncoderCache
from workers.engine.replay import ReplayLog
from workers.engine.request import Failed, Finished
from workers.pipelines.model import wrap
from workers.pipelines.view import PipelineView

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from workers.pipelines.model import LoadedModel


def full(*_: Any, **__: Any) -> Any:
    """Be a copy for which there is no memory."""
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_memo_that_finds_no_memory_gives_way(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts are then encoded each time, and every picture is there."""
    monkeypatch.setattr(encoder_caches, "_copy", full)
    engine = engine_of(models)
    for name in "ab":
        engine.add(request(name))
    assert {type(one) for one in run_until_idle(engine).values()} == {Finished}
    assert not engine.stats.encoder_cache_hits


def test_a_memo_that_cannot_copy_what_it_knows_forgets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is given, and what it held is free for others."""
    cache = EncoderCache()
    cache.put(call(1), ROW)
    with monkeypatch.context() as patch:
        patch.setattr(encoder_caches, "_copy", full)
        assert cache.get(call(1)) is None
    assert cache.get(call(1)) is None
    assert cache._size_bytes == 0


def test_an_answer_that_cannot_be_taken_down_ends_its_job_alone(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two jobs one finds no memory for its record; the other's picture is as ever."""
    engine = engine_of(models)
    engine.add(request("mate"))
    alone = run_until_idle(engine)["mate"]
    note = ReplayLog.append

    def scarce(self: ReplayLog, answer: Any) -> None:
        if self._request.id == "unlucky" and self.steps == 2:
            full()
        note(self, answer)

    monkeypatch.setattr(ReplayLog, "append", scarce)
    engine = engine_of(models)
    engine.add(request("mate"))
    engine.add(request("unlucky", seed=5))
    outcomes = run_until_idle(engine)
    assert isinstance(outcomes["unlucky"], Failed)
    assert outcomes["unlucky"].code == "out_of_memory"
    assert isinstance(alone, Finished)
    assert distance(outcomes["mate"], alone.pixels) <= 1


def test_a_preview_that_fails_leaves_the_others_theirs(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever watches another job sees it."""
    engine = engine_of(models)
    for name in "ab":
        engine.add(request(name, num_inference_steps=9))
    while any(done < 3 for done, _ in engine.progress().values()):
        engine.step()
    preview = PipelineView.preview

    def spoilt(self: PipelineView, answer: torch.Tensor) -> Any:
        if self.request.id == "a":
            raise IndexError("no such channel")
        return preview(self, answer)

    monkeypatch.setattr(PipelineView, "preview", spoilt)
    assert set(engine.previews(["a", "b"])) == {"b"}


def test_infinite_pixels_are_found_before_they_are_clamped() -> None:
    """An infinity would come out as plain black or white."""
    pipeline = FAMILIES["sd"]()
    pipeline.vae.decoder.conv_out.bias.data[0] = float("inf")
    engine = engine_of({"sd": wrap(pipeline, name="sd")})
    engine.add(request("a"))
    ended = run_until_idle(engine)["a"]
    assert isinstance(ended, Failed)
    assert ended.code == "not_finite"


def test_what_is_compiled_is_compiled_in_all_sizes_before_anybody_waits(
    hook_denoiser: Callable[[Callable[..., Any]], None],
    stock: dict[str, Any],
) -> None:
    """However little time there is for warming up, no power of two of rows is left to a job."""
    model = wrap(stock["sd"], name="sd", bucketed=True)
    engine = engine_of({"sd": model}, max_rows=6)  # five and six are filled up to eight
    sizes, compiling = [], []

    def look(sample: torch.Tensor) -> None:
        sizes.append(len(sample))
        compiling.append(engine.compiling)

    hook_denoiser(look)
    engine.warm_up(request("warm-up"), budget_s=0.0)
    assert set(sizes) == {1, 2, 4, 8}
    assert compiling[sizes.index(8)]
    compiling.clear()
    for seed in range(4):
        engine.add(request(str(seed), seed=seed, guidance_scale=1.0 if seed == 3 else 4.0))
    run_until_idle(engine)
    assert compiling
    assert not any(compiling)


def test_a_compiled_model_served_one_at_a_time_is_not_filled_up(
    hook_denoiser: Callable[[Callable[..., Any]], None],
    stock: dict[str, Any],
) -> None:
    """It may mix its rows, and so the copies into the pictures; each size of its own is compiled."""
    model = wrap(stock["sd"], name="sd", batched=False, bucketed=True)
    engine = engine_of({"sd": model})
    engine.warm_up(request("warm-up"))
    seen: list[tuple[int, bool]] = []
    hook_denoiser(lambda sample: seen.append((len(sample), engine.compiling)))
    engine.add(request("a", num_images=3))
    run_until_idle(engine)
    assert {size for size, _ in seen} == {6}
    assert seen[0] == (6, True)
    assert not seen[-1][1]


def test_a_model_served_one_at_a_time_learns_its_times(
    hook_denoiser: Callable[[Callable[..., Any]], None],
    stock: dict[str, Any],
) -> None:
    """Each of its calls has the key of the last one like it, and warming up stacks none."""
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
