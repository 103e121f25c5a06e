"""Faults outside forwards (caches, logs, previews) cost at most one job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    failed,
    finished,
    request,
    run_until_idle,
)
from tests.unit.workers.engine.test_encoder_cache import ROW, call
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine import encoder_cache as encoder_caches
from workers.engine.encoder_cache import EncoderCache
from workers.engine.replay import ReplayLog
from workers.engine.request import Finished
from workers.pipelines.model import wrap
from workers.pipelines.view import PipelineView

if TYPE_CHECKING:
    import pytest

    from workers.pipelines.model import LoadedModel


def out_of_memory(*_: Any, **__: Any) -> Any:
    """Replace a copy that finds no memory."""
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_cache_without_memory_stays_empty(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts are encoded each time, and every job finishes."""
    monkeypatch.setattr(encoder_caches, "_copy", out_of_memory)
    engine = engine_of(models)
    for name in "ab":
        engine.add(request(name))
    assert {type(one) for one in run_until_idle(engine).values()} == {Finished}
    assert not engine.stats.cache_hits


def test_a_cache_that_cannot_copy_a_result_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """It misses, and frees its memory for others."""
    cache = EncoderCache()
    cache.put(call(1), ROW)
    with monkeypatch.context() as patch:
        patch.setattr(encoder_caches, "_copy", out_of_memory)
        assert cache.get(call(1)) is None
    assert cache.get(call(1)) is None
    assert cache._size_bytes == 0


def test_an_answer_that_cannot_be_logged_fails_only_its_job(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two jobs finds no memory for its log; the other's picture does not change."""
    engine = engine_of(models)
    engine.add(request("other"))
    unbatched = run_until_idle(engine)["other"]
    append = ReplayLog.append

    def scarce(self: ReplayLog, answer: Any) -> None:
        if self._request.id == "unlucky" and self.steps == 2:
            out_of_memory()
        append(self, answer)

    monkeypatch.setattr(ReplayLog, "append", scarce)
    engine = engine_of(models)
    engine.add(request("other"))
    engine.add(request("unlucky", seed=5))
    outcomes = run_until_idle(engine)
    assert failed(outcomes["unlucky"]).code == "out_of_memory"
    assert distance(outcomes["other"], finished(unbatched).pixels) <= 1


def test_a_failed_preview_does_not_affect_others(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The previews of other jobs are still returned."""
    engine = engine_of(models)
    for name in "ab":
        engine.add(request(name, num_inference_steps=9))
    while any(done < 3 for done, _ in engine.progress().values()):
        engine.step()
    preview = PipelineView.preview

    def failing(self: PipelineView, answer: torch.Tensor) -> Any:
        if self.request.id == "a":
            raise IndexError("no such channel")
        return preview(self, answer)

    monkeypatch.setattr(PipelineView, "preview", failing)
    assert set(engine.previews(["a", "b"])) == {"b"}


def test_infinite_pixels_are_detected_before_the_clamp() -> None:
    """Pipelines would clamp an infinity to black or white."""
    pipeline = FAMILIES["sd"]()
    pipeline.vae.decoder.conv_out.bias.data[0] = float("inf")
    engine = engine_of({"sd": wrap(pipeline, name="sd")})
    engine.add(request("a"))
    assert failed(run_until_idle(engine)["a"]).code == "not_finite"
