"""The engine: joining, leaving, and whose fault a fault is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    picture,
    request,
    run_until_idle,
)
from workers.engine.request import BadRequest, Cancelled, DeviceLost, Failed, Finished, NotFinite

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.pipelines.model import LoadedModel


def test_an_engine_without_jobs_is_idle(models: dict[str, LoadedModel]) -> None:
    """With nothing to do a step does nothing and returns nothing."""
    engine = engine_of(models)
    assert engine.idle
    assert engine.step() == []
    assert engine.stats.mean_rows == 0


def test_a_finished_job_carries_its_pictures_and_what_they_cost(
    models: dict[str, LoadedModel],
) -> None:
    """The outcome names the seeds and the job's share of the device's seconds."""
    engine = engine_of(models)
    engine.add(request("a", num_images=2, width=24, height=16, seed=40))
    finished = run_until_idle(engine)["a"]
    assert isinstance(finished, Finished)
    assert [image.shape for image in finished.pixels] == [(16, 24, 3)] * 2
    assert [str(image.dtype) for image in finished.pixels] == ["uint8"] * 2
    assert finished.seeds == (40, 41)
    assert finished.steps == 4
    assert finished.device_s == pytest.approx(sum(engine.stats.forwards.values()))


def test_those_who_share_a_forward_share_its_seconds(models: dict[str, LoadedModel]) -> None:
    """The shares of all jobs add up to the seconds that the forwards took."""
    engine = engine_of(models)
    engine.add(request("a", num_images=2))
    engine.add(request("b", num_inference_steps=7))
    outcomes = run_until_idle(engine)
    assert outcomes["a"].device_s > outcomes["b"].device_s / 2
    total = sum(finished.device_s for finished in outcomes.values())
    assert total == pytest.approx(sum(engine.stats.forwards.values()))


@pytest.mark.parametrize("scheduler", ["ddim", "heun", "pndm", "lcm"])
@pytest.mark.parametrize("strength", [None, 0.5])
def test_progress_counts_steps_and_arrives(
    scheduler: str, strength: float | None, models: dict[str, LoadedModel]
) -> None:
    """Progress never falls and ends at (steps, steps), however often the denoiser is called."""
    engine = engine_of(models)
    image = None if strength is None else picture(1)
    engine.add(
        request("a", num_inference_steps=6, scheduler=scheduler, image=image, strength=strength)
    )
    seen = [engine.progress()["a"]]
    while not engine.idle:
        engine.step()
        seen += engine.progress().values()
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    assert seen == sorted(seen)
    assert len(set(seen)) >= 4


def test_a_cancelled_job_leaves_and_its_mates_do_not_notice(
    models: dict[str, LoadedModel],
) -> None:
    """Cancelled in mid-flight it is reported by the next step; the mates' pictures are as alone."""
    engine = engine_of(models)
    engine.add(request("mate", num_inference_steps=12))
    alone = run_until_idle(engine)["mate"]

    engine = engine_of(models)
    engine.add(request("mate", num_inference_steps=12))
    engine.add(request("gone", num_inference_steps=8, seed=1))
    while engine.progress()["gone"][0] < 2:
        assert engine.step() == []
    assert engine.cancel("gone")
    assert Cancelled("gone") in engine.step()
    assert "gone" not in engine.progress()
    assert not engine.cancel("gone")
    assert distance(run_until_idle(engine)["mate"], alone.pixels) <= 1


def test_a_job_cancelled_before_it_starts_never_runs(models: dict[str, LoadedModel]) -> None:
    """It costs no forward."""
    engine = engine_of(models)
    engine.add(request("gone"))
    engine.cancel("gone")
    assert engine.step() == [Cancelled("gone")]
    assert engine.idle
    assert not engine.stats.forwards


def test_a_cancelled_pipeline_is_unwound(models: dict[str, LoadedModel]) -> None:
    """Its greenlet is finished: the pipeline's `finally` blocks have run and it is freed."""
    engine = engine_of(models)
    engine.add(request("gone"))
    engine.step()
    coroutine = engine._in_flight["gone"]._coroutine
    assert not coroutine.done
    engine.cancel("gone")
    engine.step()
    assert coroutine.done
    assert coroutine.call is None


def test_one_faulty_job_fails_alone(models: dict[str, LoadedModel]) -> None:
    """A job whose pipeline raises and one whose latents overflow fail; their mate does not."""
    engine = engine_of(models)
    engine.add(request("mate"))
    alone = run_until_idle(engine)["mate"]

    engine = engine_of(models)
    engine.add(request("mate"))
    engine.add(request("raises", prompt=5))
    engine.add(request("overflows", guidance_scale=1e38))
    outcomes = run_until_idle(engine)
    assert outcomes["raises"].code == "render_failed"
    assert "prompt" in outcomes["raises"].message
    assert outcomes["overflows"].code == "not_finite"
    assert distance(outcomes["mate"], alone.pixels) <= 1


def test_pixels_that_are_not_finite_fail_their_job(models: dict[str, LoadedModel]) -> None:
    """A decoder that overflows on sound latents is found out too."""
    view = models["sd"].view(request("a"))
    view.pipeline.image_processor = _Overflowing()
    with pytest.raises(NotFinite):
        view.render()


def test_a_group_that_does_not_fit_is_halved_and_the_cap_learns(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """Out of memory above 2 rows: all jobs finish as before and no larger group is tried again."""
    asked = [request(str(seed), seed=seed) for seed in range(3)]
    engine = engine_of(models)
    for one in asked:
        engine.add(one)
    roomy = run_until_idle(engine)

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
        assert distance(outcomes[one.id], roomy[one.id].pixels) <= 1
    assert [rows for rows in tried if rows > 2] == [6, 4]


def test_a_job_too_wide_for_memory_runs_row_by_row(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """A single job of several rows is cut between its own rows, and pays for all of them."""
    engine = engine_of(models)
    engine.add(request("wide", num_images=2))
    roomy = run_until_idle(engine)["wide"]

    def refuse(sample: torch.Tensor) -> None:
        if len(sample) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook_denoiser(refuse)
    engine = engine_of(models)
    engine.add(request("wide", num_images=2))
    finished = run_until_idle(engine)["wide"]
    assert distance(finished, roomy.pixels) <= 1
    assert engine.stats.mean_rows == 1
    assert finished.device_s == pytest.approx(sum(engine.stats.forwards.values()))


def test_a_job_that_never_fits_fails_alone(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """One row too large for the device fails with `out_of_memory`; the others finish."""

    def refuse(sample: torch.Tensor) -> None:
        if sample.shape[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook_denoiser(refuse)
    engine = engine_of(models)
    engine.add(request("huge", width=64, height=64))
    engine.add(request("small"))
    outcomes = run_until_idle(engine)
    assert outcomes["huge"].code == "out_of_memory"
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
def test_a_poisoned_device_is_nobodys_fault(
    during: str,
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever it shows, the step raises DeviceLost and no job is reported as failed."""

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


def test_a_job_that_asks_to_be_alone_is(
    models: dict[str, LoadedModel],
    hook_denoiser: Callable[[Callable[..., Any]], None],
) -> None:
    """It starts after those before it, nobody joins it, and those behind it follow."""
    rows: list[int] = []
    hook_denoiser(lambda sample: rows.append(len(sample)))
    engine = engine_of(models)
    engine.add(request("before", guidance_scale=1.0, num_inference_steps=2))
    engine.add(request("alone", guidance_scale=1.0, num_inference_steps=3, exclusive=True))
    engine.add(request("x", guidance_scale=1.0, num_inference_steps=2))
    engine.add(request("y", guidance_scale=1.0, num_inference_steps=2))
    assert set(run_until_idle(engine)) == {"before", "alone", "x", "y"}
    assert rows == [1, 1, 1, 1, 1, 2, 2]


def test_a_prompt_seen_before_is_not_encoded_again(models: dict[str, LoadedModel]) -> None:
    """The memo answers equal texts without a forward, and the picture is the same."""
    engine = engine_of(models)
    engine.add(request("a"))
    first = run_until_idle(engine)["a"]
    encoded = engine.stats.forwards["encoder"]
    engine.add(request("b"))
    second = run_until_idle(engine)["b"]
    assert engine.stats.forwards["encoder"] == encoded == 2
    assert engine.stats.encoder_cache_hits["encoder"] == 2
    assert distance(second, first.pixels) == 0


def test_two_models_and_two_shapes_render_side_by_side(models: dict[str, LoadedModel]) -> None:
    """Jobs that can share no forward still all finish."""
    engine = engine_of(models)
    for family in models:
        engine.add(request(f"{family}-small", family))
        engine.add(request(f"{family}-large", family, width=32))
    outcomes = run_until_idle(engine)
    assert {type(outcome) for outcome in outcomes.values()} == {Finished}
    assert len(outcomes) == 2 * len(models)


def test_finished_jobs_are_decoded_together(models: dict[str, LoadedModel]) -> None:
    """Generators, which decoders do not use, do not keep two jobs from sharing the decoder."""
    engine = engine_of(models)
    engine.add(request("a"))
    engine.add(request("b", seed=1))
    run_until_idle(engine)
    assert engine.stats.forwards["decoder"] == 1
    assert engine.stats.rows["decoder"] == 2


def test_whoever_is_nearest_to_the_end_leaves_first(models: dict[str, LoadedModel]) -> None:
    """With room for one job at a time, a short one that comes late passes a long one."""
    engine = engine_of(models, max_rows=2)
    engine.add(request("long", num_inference_steps=12))
    while engine.progress()["long"][0] < 2:
        engine.step()
    engine.add(request("short", num_inference_steps=3))
    assert list(run_until_idle(engine)) == ["short", "long"]


def test_a_long_job_does_not_starve(models: dict[str, LoadedModel]) -> None:
    """While a short job arrives as soon as the last has left, the long one still finishes."""
    engine = engine_of(models, max_rows=2)
    engine.add(request("long", num_inference_steps=6))
    arrived, ended = 0, set()
    while "long" not in ended:
        if engine.progress().keys() <= {"long"}:
            engine.add(request(f"short {arrived}", num_inference_steps=1))
            arrived += 1
        ended |= {outcome.id for outcome in engine.step()}
        assert arrived < 50, "the long job starves"
    assert arrived > 1


def test_gradients_are_as_before_after_a_step(models: dict[str, LoadedModel]) -> None:
    """A job left in mid-flight does not leave its gradient mode behind on the thread."""
    engine = engine_of(models)
    engine.add(request("a"))
    engine.step()
    assert torch.is_grad_enabled()
    engine.drain()
    assert torch.is_grad_enabled()


def test_warming_up_learns_the_times_of_a_shape(models: dict[str, LoadedModel]) -> None:
    """Afterwards T(rows) is known for sizes doubled up to the limit, and nothing was counted."""
    engine = engine_of(models, max_rows=8)
    engine.warm_up(request("a"), budget_s=1e9)
    assert engine.idle
    assert not engine.stats.forwards
    measured = [engine._costs.measured(key) for key in engine._costs._times_s]
    assert {2, 4, 8} in [set(times) for times in measured]


BAD = {
    "unknown_model": ("model", {"model": "none"}),
    "unknown_scheduler": ("scheduler", {"scheduler": "dream"}),
    "bad_size": ("width", {"width": 20}),
    "bad_steps": ("num_inference_steps", {"scheduler": "lcm", "num_inference_steps": 900}),
    "out_of_range": ("num_images", {"num_images": 0}),
    "missing_field": ("image", {"mask": picture(1, "L")}),
}


@pytest.mark.parametrize("code", BAD)
def test_a_request_that_cannot_run_is_refused_by_name(
    code: str, models: dict[str, LoadedModel]
) -> None:
    """BadRequest carries a stable code and the field at fault, and the engine stays idle."""
    field, changes = BAD[code]
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
    """Values that no pipeline can run are named before anything starts."""
    with pytest.raises(BadRequest) as caught:
        engine_of(models).add(request("a", **changes))
    assert caught.value.field == field


def test_a_broken_image_is_refused(models: dict[str, LoadedModel], tmp_path: Any) -> None:
    """A file that ends too early is a bad request, not a failed render."""
    path = tmp_path / "cut.png"
    picture(1, size=(256, 256)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadRequest) as caught:
        engine_of(models).add(request("a", image=Image.open(path)))
    assert (caught.value.code, caught.value.field) == ("bad_image", "image")


def test_one_id_is_one_job(models: dict[str, LoadedModel]) -> None:
    """An id in flight is refused; once the job has ended it is free again."""
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
        """Spoil one pixel."""
        image[0, 0, 0, 0] = float("inf")
        return image
