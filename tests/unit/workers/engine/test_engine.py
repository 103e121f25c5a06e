"""Engine: joining, leaving, errors and admission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    failed,
    finished,
    picture,
    request,
    run_until_idle,
)
from workers.engine.request import BadRequest, Cancelled, DeviceLost, Failed, Finished, NotFinite

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.pipelines.model import LoadedModel


def test_an_engine_without_jobs_is_idle(models: dict[str, LoadedModel]) -> None:
    """A step without jobs does nothing and returns nothing."""
    engine = engine_of(models)
    assert engine.idle
    assert engine.step() == []
    assert engine.stats.mean_rows == 0


def test_a_finished_job_has_its_pictures_and_its_device_seconds(
    models: dict[str, LoadedModel],
) -> None:
    """The outcome has the seeds and the job's share of the device's seconds."""
    engine = engine_of(models)
    engine.add(request("a", num_images=2, width=24, height=16, seed=40))
    outcome = finished(run_until_idle(engine)["a"])
    assert [image.shape for image in outcome.pixels] == [(16, 24, 3)] * 2
    assert [str(image.dtype) for image in outcome.pixels] == ["uint8"] * 2
    assert outcome.seeds == (40, 41)
    assert outcome.steps == 4
    assert outcome.device_s == pytest.approx(sum(engine.stats.forwards.values()))


def test_jobs_that_share_a_forward_share_its_seconds(models: dict[str, LoadedModel]) -> None:
    """The shares of all jobs add up to the seconds that the forwards took."""
    engine = engine_of(models)
    engine.add(request("a", num_images=2))
    engine.add(request("b", num_inference_steps=7))
    device_s = {name: finished(job).device_s for name, job in run_until_idle(engine).items()}
    assert device_s["a"] > device_s["b"] / 2
    total = sum(device_s.values())
    assert total == pytest.approx(sum(engine.stats.forwards.values()))


@pytest.mark.parametrize("scheduler", ["ddim", "heun", "pndm", "lcm"])
@pytest.mark.parametrize("strength", [None, 0.5])
def test_progress_counts_steps_to_the_end(
    scheduler: str, strength: float | None, models: dict[str, LoadedModel]
) -> None:
    """Progress never falls and ends at (steps, steps), however often the denoiser is called."""
    engine = engine_of(models)
    image = None if strength is None else picture(1)
    engine.add(
        request("a", num_inference_steps=6, scheduler=scheduler, image=image, strength=strength)
    )
    progress = [engine.progress()["a"]]
    while not engine.idle:
        engine.step()
        progress += engine.progress().values()
    assert progress[0] == (0, 6)
    assert progress[-1] == (6, 6)
    assert progress == sorted(progress)
    assert len(set(progress)) >= 4


def test_a_cancelled_job_leaves_without_effect_on_others(
    models: dict[str, LoadedModel],
) -> None:
    """The next step reports it; the other job's picture stays the unbatched one."""
    engine = engine_of(models)
    engine.add(request("other", num_inference_steps=12))
    unbatched = finished(run_until_idle(engine)["other"])

    engine = engine_of(models)
    engine.add(request("other", num_inference_steps=12))
    engine.add(request("gone", num_inference_steps=8, seed=1))
    while engine.progress()["gone"][0] < 2:
        assert engine.step() == []
    assert engine.cancel("gone")
    assert Cancelled("gone") in engine.step()
    assert "gone" not in engine.progress()
    assert not engine.cancel("gone")
    assert distance(run_until_idle(engine)["other"], unbatched.pixels) <= 1


def test_a_job_cancelled_before_it_starts_never_runs(models: dict[str, LoadedModel]) -> None:
    """Its outcome comes from the next step, without any forward."""
    engine = engine_of(models)
    engine.add(request("gone"))
    engine.cancel("gone")
    assert engine.step() == [Cancelled("gone")]
    assert engine.idle
    assert not engine.stats.forwards


def test_a_cancelled_pipeline_is_unwound(models: dict[str, LoadedModel]) -> None:
    """Its greenlet has ended: the pipeline's `finally` blocks have run and its memory is free."""
    engine = engine_of(models)
    engine.add(request("gone"))
    engine.step()
    coroutine = engine._in_flight["gone"]._coroutine
    done_before = coroutine.done
    engine.cancel("gone")
    engine.step()
    assert (done_before, coroutine.done) == (False, True)
    assert coroutine.call is None


def test_a_faulty_job_does_not_fail_others(models: dict[str, LoadedModel]) -> None:
    """A job that raises and one whose latents overflow fail; the job next to them finishes."""
    engine = engine_of(models)
    engine.add(request("other"))
    unbatched = finished(run_until_idle(engine)["other"])

    engine = engine_of(models)
    engine.add(request("other"))
    engine.add(request("raises", prompt=5))
    engine.add(request("overflows", guidance_scale=1e38))
    outcomes = run_until_idle(engine)
    assert failed(outcomes["raises"]).code == "render_failed"
    assert "prompt" in failed(outcomes["raises"]).message
    assert failed(outcomes["overflows"]).code == "not_finite"
    assert distance(outcomes["other"], unbatched.pixels) <= 1


def test_pixels_that_are_not_finite_fail_their_job(models: dict[str, LoadedModel]) -> None:
    """A decoder that overflows on finite latents is detected too."""
    view = models["sd"].view(request("a"))
    view.pipeline.image_processor = _Overflowing()
    with pytest.raises(NotFinite):
        view.render()


def test_a_group_that_does_not_fit_is_halved_and_the_limit_learned(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """Out of memory above 2 rows, all jobs finish as before and no larger group is tried again."""
    asked = [request(str(seed), seed=seed) for seed in range(3)]
    engine = engine_of(models)
    for one in asked:
        engine.add(one)
    unlimited = run_until_idle(engine)

    tried: list[int] = []

    def refuse(sample: torch.Tensor) -> None:
        tried.append(len(sample))
        if len(sample) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook_denoiser(refuse)
    engine = engine_of(models)
    for one in asked:
        engine.add(one)
    outcomes = run_until_idle(engine)
    for one in asked:
        assert distance(outcomes[one.id], finished(unlimited[one.id]).pixels) <= 1
    assert [rows for rows in tried if rows > 2] == [6, 4]


def test_a_job_too_wide_for_memory_runs_row_by_row(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """A job of several rows is split between its rows, and is charged for all of them."""
    engine = engine_of(models)
    engine.add(request("wide", num_images=2))
    unlimited = finished(run_until_idle(engine)["wide"])

    def refuse(sample: torch.Tensor) -> None:
        if len(sample) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook_denoiser(refuse)
    engine = engine_of(models)
    engine.add(request("wide", num_images=2))
    wide = finished(run_until_idle(engine)["wide"])
    assert distance(wide, unlimited.pixels) <= 1
    assert engine.stats.mean_rows == 1
    assert wide.device_s == pytest.approx(sum(engine.stats.forwards.values()))


def test_a_job_that_never_fits_does_not_fail_others(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """A row too large for the device fails with `out_of_memory`; the other job finishes."""

    def refuse(sample: torch.Tensor) -> None:
        if sample.shape[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook_denoiser(refuse)
    engine = engine_of(models)
    engine.add(request("huge", width=64, height=64))
    engine.add(request("small"))
    outcomes = run_until_idle(engine)
    assert failed(outcomes["huge"]).code == "out_of_memory"
    assert isinstance(outcomes["small"], Finished)


def test_a_row_that_no_forward_survives_fails_its_own_job(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """When a shared forward raises, only the job whose row is at fault fails."""

    def refuse(sample: torch.Tensor) -> None:
        if sample.abs().max() > 100:
            raise RuntimeError("the latents explode")

    hook_denoiser(refuse)
    engine = engine_of(models)
    engine.add(request("wild", guidance_scale=1e6))
    for seed in range(3):
        engine.add(request(str(seed), seed=seed))
    outcomes = run_until_idle(engine)
    assert outcomes.pop("wild") == Failed("wild", "render_failed", "the latents explode")
    assert {type(outcome) for outcome in outcomes.values()} == {Finished}


@pytest.mark.parametrize("during", ["denoiser", "pipeline"])
def test_a_poisoned_device_fails_no_job(
    during: str,
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever the error appears, the step raises DeviceLost and no job is reported as failed."""

    def poison(*_: Any, **__: Any) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    engine = engine_of(models)
    if during == "denoiser":
        hook_denoiser(poison)
    else:
        monkeypatch.setattr(type(models["sd"].schedulers["ddim"]), "step", poison)
    engine.add(request("a", scheduler="ddim"))
    with pytest.raises(DeviceLost, match="device-side assert"):
        run_until_idle(engine)


def test_an_exclusive_job_runs_alone(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """It starts after the jobs before it, no job joins it, and the jobs behind it follow."""
    rows: list[int] = []
    hook_denoiser(lambda sample: rows.append(len(sample)))
    engine = engine_of(models)
    engine.add(request("before", guidance_scale=1.0, num_inference_steps=2))
    engine.add(request("exclusive", guidance_scale=1.0, num_inference_steps=3, exclusive=True))
    engine.add(request("x", guidance_scale=1.0, num_inference_steps=2))
    engine.add(request("y", guidance_scale=1.0, num_inference_steps=2))
    assert set(run_until_idle(engine)) == {"before", "exclusive", "x", "y"}
    assert rows == [1, 1, 1, 1, 1, 2, 2]


def test_a_known_prompt_is_not_encoded_again(models: dict[str, LoadedModel]) -> None:
    """The cache answers equal texts without a forward, and the picture is the same."""
    engine = engine_of(models)
    engine.add(request("a"))
    first = finished(run_until_idle(engine)["a"])
    encoded = engine.stats.forwards["encoder"]
    engine.add(request("b"))
    second = finished(run_until_idle(engine)["b"])
    assert engine.stats.forwards["encoder"] == encoded == 2
    assert engine.stats.cache_hits["encoder"] == 2
    assert distance(second, first.pixels) == 0


def test_two_models_and_two_shapes_render_side_by_side(models: dict[str, LoadedModel]) -> None:
    """Jobs that cannot share a forward all finish."""
    engine = engine_of(models)
    for family in models:
        engine.add(request(f"{family}-small", family))
        engine.add(request(f"{family}-large", family, width=32))
    outcomes = run_until_idle(engine)
    assert {type(outcome) for outcome in outcomes.values()} == {Finished}
    assert len(outcomes) == 2 * len(models)


def test_finished_jobs_are_decoded_together(models: dict[str, LoadedModel]) -> None:
    """Decoders do not use generators, so two jobs with different generators share the decoder."""
    engine = engine_of(models)
    engine.add(request("a"))
    engine.add(request("b", seed=1))
    run_until_idle(engine)
    assert engine.stats.forwards["decoder"] == 1
    assert engine.stats.rows["decoder"] == 2


def test_the_job_nearest_to_its_end_finishes_first(models: dict[str, LoadedModel]) -> None:
    """With room for one job at a time, a short job that arrives later passes a long one."""
    engine = engine_of(models, max_rows=2)
    engine.add(request("long", num_inference_steps=12))
    while engine.progress()["long"][0] < 2:
        engine.step()
    engine.add(request("short", num_inference_steps=3))
    assert list(run_until_idle(engine)) == ["short", "long"]


def test_a_long_job_does_not_starve(models: dict[str, LoadedModel]) -> None:
    """A long job finishes although a new short job arrives whenever the last one has ended."""
    engine = engine_of(models, max_rows=2)
    engine.add(request("long", num_inference_steps=6))
    ended: set[str] = set()
    arrived = 0
    while "long" not in ended:
        if engine.progress().keys() <= {"long"}:
            engine.add(request(f"short {arrived}", num_inference_steps=1))
            arrived += 1
        ended |= {outcome.id for outcome in engine.step()}
        assert arrived < 50, "the long job starves"
    assert arrived > 1


def test_gradients_are_as_before_after_a_step(models: dict[str, LoadedModel]) -> None:
    """A job in flight does not change the gradient mode of the thread."""
    engine = engine_of(models)
    engine.add(request("a"))
    engine.step()
    assert torch.is_grad_enabled()
    engine.drain()
    assert torch.is_grad_enabled()


INVALID: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown_model": ("model", {"model": "none"}),
    "unknown_scheduler": ("scheduler", {"scheduler": "dream"}),
    "bad_size": ("width", {"width": 20}),
    "bad_steps": ("num_inference_steps", {"scheduler": "lcm", "num_inference_steps": 900}),
    "out_of_range": ("num_images", {"num_images": 0}),
    "missing_field": ("image", {"mask": picture(1, "L")}),
}


@pytest.mark.parametrize("code", INVALID)
def test_a_request_that_cannot_run_is_refused_by_field(
    code: str, models: dict[str, LoadedModel]
) -> None:
    """BadRequest has a stable code and the invalid field, and the engine stays idle."""
    field, changes = INVALID[code]
    engine = engine_of(models)
    with pytest.raises(BadRequest) as caught:
        engine.add(request("a", **changes))
    assert (caught.value.code, caught.value.field) == (code, field)
    assert engine.idle


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**63}),
        ("guidance_scale", {"guidance_scale": float("nan")}),
        ("height", {"height": 0}),
        ("num_inference_steps", {"num_inference_steps": 0}),
        ("strength", {"image": picture(1), "strength": 0.0}),
        ("strength", {"image": picture(1), "strength": 1.5}),
        ("strength", {"image": picture(1), "strength": 0.2}),
        ("strength", {"image": picture(1), "num_inference_steps": 1}),
        ("image", {"strength": 0.5}),
    ],
)
def test_numbers_out_of_range_are_refused(
    field: str, changes: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Values that no pipeline can run are refused before anything starts."""
    with pytest.raises(BadRequest) as caught:
        engine_of(models).add(request("a", **changes))
    assert caught.value.field == field


def test_a_truncated_image_is_refused(models: dict[str, LoadedModel], tmp_path: Any) -> None:
    """A truncated file is a bad request, not a failed render."""
    path = tmp_path / "truncated.png"
    picture(1, size=(256, 256)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadRequest) as caught:
        engine_of(models).add(request("a", image=Image.open(path)))
    assert (caught.value.code, caught.value.field) == ("bad_image", "image")


def test_an_id_in_use_is_refused(models: dict[str, LoadedModel]) -> None:
    """An id is free again after its job has ended."""
    engine = engine_of(models)
    engine.add(request("a", num_inference_steps=1))
    with pytest.raises(BadRequest) as caught:
        engine.add(request("a"))
    assert caught.value.code == "duplicate_id"
    run_until_idle(engine)
    engine.add(request("a", num_inference_steps=1))


class _Overflowing:
    """An image processor whose pictures hold an infinity."""

    def postprocess(self, image: torch.Tensor, **_: Any) -> torch.Tensor:
        """Set one pixel to infinity."""
        image[0, 0, 0, 0] = float("inf")
        return image
