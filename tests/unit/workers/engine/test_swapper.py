"""The swapper: models come to the device when a job wants them, and leave when others do."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.engine.simulate import without_cap
from tests.unit.workers.engine.reference import distance, request, run_until_idle, stock_pixels
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine import memory_profiler
from workers.engine.engine import PATIENCE_S, Engine
from workers.engine.request import Finished
from workers.engine.swapper import WEIGHTS_SHARE, ModelSwapper
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from workers.pipelines.model import LoadedModel

SIZE = 100


class Mark:
    """Weights that note where they are."""

    def __init__(self, size_bytes: int = SIZE) -> None:
        self.size_bytes = size_bytes
        self.went: list[str] = []
        self.relieved = 0

    def move(self, device: str) -> None:
        """Go there."""
        self.went.append(device)

    def free_scratch(self) -> None:
        """Let go of what is beside the weights."""
        self.relieved += 1


def shelf_of(names: str, budget: float | None) -> tuple[ModelSwapper, dict[str, Mark]]:
    """A shelf with a model for each letter, and room for so many of them."""
    room = None if budget is None else int(budget * SIZE / WEIGHTS_SHARE)
    swapper, marks = ModelSwapper("cpu", room), {name: Mark() for name in names}
    for name, mark in marks.items():
        swapper.add(name, mark)
    return swapper, marks


def test_who_stays_makes_room_beside_the_weights() -> None:
    """Recorded forwards hold memory of which the budget knows nothing."""
    swapper, marks = shelf_of("ab", None)
    swapper.ensure_on_device("a")
    swapper.ensure_on_device("a")
    assert marks["a"].relieved == 0
    swapper.ensure_on_device("b")
    assert (marks["a"].relieved, marks["b"].relieved) == (1, 0)
    assert marks["a"].went == ["cpu"]


def test_without_a_budget_everybody_stays() -> None:
    """Each model comes once, and none leaves."""
    swapper, marks = shelf_of("abc", None)
    assert all(swapper.ensure_on_device(name) for name in "abcabc")
    assert swapper.resident == list("abc")
    assert [mark.went for mark in marks.values()] == [["cpu"]] * 3
    assert swapper.free_bytes is None


def test_the_least_recently_used_model_leaves() -> None:
    """With room for two, the third takes the place of the one that was asked for longest ago."""
    swapper, _ = shelf_of("abc", 2)
    for name in "abac":
        assert swapper.ensure_on_device(name)
    assert swapper.resident == ["a", "c"]
    assert swapper.moves == 3


def test_a_busy_model_stays_and_the_other_waits() -> None:
    """A model with jobs in flight is never pulled from under them."""
    swapper, marks = shelf_of("abc", 2)
    swapper.ensure_on_device("a")
    swapper.ensure_on_device("b")
    assert not swapper.ensure_on_device("c", busy={"a", "b"})
    assert swapper.ensure_on_device("c", busy={"a"})
    assert swapper.resident == ["a", "c"]
    assert marks["a"].went == ["cpu"]


def test_a_model_larger_than_the_budget_has_the_device_to_itself() -> None:
    """It is served, once nobody else is there; out of memory is found out by itself."""
    swapper, _ = shelf_of("ab", 1.5)
    swapper.add("huge", Mark(10 * SIZE))
    swapper.ensure_on_device("a")
    assert not swapper.ensure_on_device("huge", busy={"a"})
    assert swapper.ensure_on_device("huge")
    assert swapper.resident == ["huge"]
    assert swapper.ensure_on_device("b")
    assert swapper.resident == ["b"]


def test_what_is_not_on_the_shelf_is_taken_to_be_there() -> None:
    """An engine without a shelf has all of its models on the device."""
    assert ModelSwapper("cpu").ensure_on_device("anything")


@pytest.fixture
def three() -> dict[str, LoadedModel]:
    """Three models of their own weights, which no other test shares."""
    return {name: wrap(FAMILIES[name](), name=name) for name in ("sd", "sdxl", "flux")}


def watched(models: dict[str, LoadedModel], swapper: ModelSwapper, seen: Counter[str]) -> None:
    """Have each denoiser check, at each forward, that its model is on the device."""
    for name, model in models.items():
        view = next(iter(model.tasks.values()))
        denoiser = getattr(view, "unet", None) or view.transformer

        def check(*_: Any, name: str = name) -> None:
            seen[name] += 1
            assert name in swapper.resident

        denoiser._module.register_forward_pre_hook(check)


def budget_for_two(models: dict[str, LoadedModel]) -> int:
    """Bytes that hold the weights of any two of three models, and not of all."""
    sizes = sorted(model.weights.size_bytes for model in models.values())
    budget = int((sizes[1] + sizes[2]) / WEIGHTS_SHARE) + 1
    assert int(budget * WEIGHTS_SHARE) < sum(sizes)
    return budget


def test_more_models_than_fit_are_all_served(
    three: dict[str, LoadedModel], stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Jobs of three models where two fit: each gets its own picture, from a model that is there."""
    swapper = ModelSwapper("cpu", budget_for_two(three))
    for name, model in three.items():
        swapper.add(name, model.weights)
    seen: Counter[str] = Counter()
    watched(three, swapper, seen)
    clock = itertools.count().__next__
    engine = Engine(three, max_rows=8, swapper=swapper, clock=clock, choose=without_cap)
    asked = [
        request(f"{round_} {name}", name, seed=round_) for round_ in range(3) for name in three
    ]
    outcomes: dict[str, Any] = {}
    for one in asked:
        engine.add(one)
        outcomes |= {outcome.id: outcome for outcome in engine.step()}
        assert len(swapper.resident) <= 2
    outcomes |= run_until_idle(engine)
    assert set(seen) == set(three)
    assert swapper.moves > 3
    for one in asked:
        finished = outcomes[one.id]
        assert isinstance(finished, Finished), finished
        assert distance(finished, stock_pixels(stock[one.model], models[one.model], one)) <= 1


def test_a_model_that_waits_for_room_is_not_passed_for_ever(
    three: dict[str, LoadedModel],
) -> None:
    """However many jobs the models on the device are sent, the third one's job has its turn."""
    swapper = ModelSwapper("cpu", budget_for_two(three))
    for name, model in three.items():
        swapper.add(name, model.weights)
    clock = itertools.count().__next__
    engine = Engine(three, swapper=swapper, clock=clock, choose=without_cap)
    for name in ("sd", "sdxl"):
        engine.add(request(name, name))
    engine.step()
    engine.add(request("late", "flux"))
    ended: list[str] = []
    for number in range(200):
        engine.add(request(f"sd {number}", "sd", num_inference_steps=2))
        ended += [outcome.id for outcome in engine.step()]
        if "late" in ended:
            break
    assert "late" in ended
    assert number > PATIENCE_S / 10


def test_groups_are_capped_by_the_memory_that_rows_were_seen_to_take() -> None:
    """With memory for three rows of a denoiser, no forward has more; without a budget, all eight."""
    model = wrap(FAMILIES["sd"](), name="sd")
    widest: list[int] = []
    model.tasks["text-to-image"].unet._module.register_forward_pre_hook(
        lambda _, args: widest.append(len(args[0]))
    )

    def render(free_bytes: int | None) -> dict[str, Any]:
        widest.clear()
        swapper = ModelSwapper("cpu", free_bytes)
        engine = Engine({"sd": model}, max_rows=8, swapper=swapper, choose=without_cap)
        for number in range(8):
            engine.add(request(str(number), seed=number, guidance_scale=1.0))
        return run_until_idle(engine)

    free = render(None)
    assert max(widest) == 8
    pixels = torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 12, 16)
    with torch.no_grad():
        _, each = memory_profiler.peak_bytes(
            lambda: model.tasks["text-to-image"].unet._module(*pixels), on_cuda=False
        )
    bounded = render(int(each * 3.5))
    assert 2 <= max(widest) <= 3
    for number in free:
        assert distance(bounded[number], free[number].pixels) <= 1


def test_the_gauge_counts_what_lives_at_the_same_time() -> None:
    """Two megabytes at once, however many came and went; what was there before is not counted."""
    before = torch.zeros(1 << 18)

    def work() -> torch.Tensor:
        for _ in range(5):
            made = before + 1
            made = made * 2
        return made.view(-1)[:4].clone()

    result, peak = memory_profiler.peak_bytes(work, on_cuda=False)
    assert result.tolist() == [2.0] * 4
    assert 2 << 20 <= peak < 3.5 * (1 << 20)
