"""ModelSwapper: models move to the device for their jobs, and are evicted for others."""

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
from workers.engine.swapper import WEIGHTS_SHARE, ModelSwapper
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from workers.pipelines.model import LoadedModel

SIZE = 100


class FakeWeights:
    """Weights that log their moves."""

    def __init__(self, size_bytes: int = SIZE) -> None:
        self.size_bytes = size_bytes
        self.moves: list[str] = []
        self.freed = 0

    def move(self, device: str) -> None:
        """Log the device."""
        self.moves.append(device)

    def free_scratch(self) -> None:
        """Count the call."""
        self.freed += 1


def swapper_of(names: str, budget: float | None) -> tuple[ModelSwapper, dict[str, FakeWeights]]:
    """Return a swapper with a model for each letter, and a budget for this many of them."""
    budget_bytes = None if budget is None else int(budget * SIZE / WEIGHTS_SHARE)
    swapper, weights = ModelSwapper("cpu", budget_bytes), {name: FakeWeights() for name in names}
    for name, fake in weights.items():
        swapper.add(name, fake)
    return swapper, weights


def test_resident_models_free_their_scratch_memory_for_a_new_one() -> None:
    """CUDA graphs hold memory that the budget does not count."""
    swapper, weights = swapper_of("ab", None)
    swapper.ensure_on_device("a")
    swapper.ensure_on_device("a")
    assert weights["a"].freed == 0
    swapper.ensure_on_device("b")
    assert (weights["a"].freed, weights["b"].freed) == (1, 0)
    assert weights["a"].moves == ["cpu"]


def test_without_a_budget_all_models_stay() -> None:
    """Each model is loaded once, and none is evicted."""
    swapper, weights = swapper_of("abc", None)
    assert all(swapper.ensure_on_device(name) for name in "abcabc")
    assert swapper.resident == list("abc")
    assert [fake.moves for fake in weights.values()] == [["cpu"]] * 3
    assert swapper.free_bytes is None


def test_the_least_recently_used_model_is_evicted() -> None:
    """With room for two, a third model replaces the least recently used one."""
    swapper, _ = swapper_of("abc", 2)
    for name in "abac":
        assert swapper.ensure_on_device(name)
    assert swapper.resident == ["a", "c"]
    assert swapper.moves == 3


def test_a_busy_model_is_not_evicted() -> None:
    """A model with jobs in flight stays, and the new one waits."""
    swapper, weights = swapper_of("abc", 2)
    swapper.ensure_on_device("a")
    swapper.ensure_on_device("b")
    assert not swapper.ensure_on_device("c", busy={"a", "b"})
    assert swapper.ensure_on_device("c", busy={"a"})
    assert swapper.resident == ["a", "c"]
    assert weights["a"].moves == ["cpu"]


def test_a_model_larger_than_the_budget_has_the_device_to_itself() -> None:
    """It is loaded once no other model is busy; its forwards may still run out of memory."""
    swapper, _ = swapper_of("ab", 1.5)
    swapper.add("huge", FakeWeights(10 * SIZE))
    swapper.ensure_on_device("a")
    assert not swapper.ensure_on_device("huge", busy={"a"})
    assert swapper.ensure_on_device("huge")
    assert swapper.resident == ["huge"]
    assert swapper.ensure_on_device("b")
    assert swapper.resident == ["b"]


def test_an_unregistered_model_is_assumed_to_be_on_the_device() -> None:
    """An engine without a swapper has all of its models on the device."""
    assert ModelSwapper("cpu").ensure_on_device("anything")


@pytest.fixture
def three() -> dict[str, LoadedModel]:
    """Return three models whose weights no other test shares."""
    return {name: wrap(FAMILIES[name](), name=name) for name in ("sd", "sdxl", "flux")}


def watch(models: dict[str, LoadedModel], swapper: ModelSwapper, forwards: Counter[str]) -> None:
    """Make each denoiser assert, at each forward, that its model is on the device."""
    for name, model in models.items():
        view = next(iter(model.tasks.values()))
        denoiser = getattr(view, "unet", None) or view.transformer

        def check(*_: Any, name: str = name) -> None:
            forwards[name] += 1
            assert name in swapper.resident

        denoiser._module.register_forward_pre_hook(check)


def budget_for_two(models: dict[str, LoadedModel]) -> int:
    """Return a budget for the weights of any two of three models, but not of all."""
    sizes = sorted(model.weights.size_bytes for model in models.values())
    budget = int((sizes[1] + sizes[2]) / WEIGHTS_SHARE) + 1
    assert int(budget * WEIGHTS_SHARE) < sum(sizes)
    return budget


def test_more_models_than_fit_are_all_served(
    three: dict[str, LoadedModel], stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Two of three models fit, and each job gets its picture from a model on the device."""
    swapper = ModelSwapper("cpu", budget_for_two(three))
    for name, model in three.items():
        swapper.add(name, model.weights)
    forwards: Counter[str] = Counter()
    watch(three, swapper, forwards)
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
    assert set(forwards) == set(three)
    assert swapper.moves > 3
    for one in asked:
        assert (
            distance(outcomes[one.id], stock_pixels(stock[one.model], models[one.model], one)) <= 1
        )


def test_a_model_that_waits_for_room_is_not_passed_indefinitely(
    three: dict[str, LoadedModel],
) -> None:
    """Although the models on the device get new jobs, the third model's job finishes."""
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


def test_measured_memory_limits_the_rows_of_a_group() -> None:
    """With memory for three rows, no forward has more; without a budget one has all eight."""
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


def test_the_profiler_counts_what_lives_at_the_same_time() -> None:
    """Two megabytes live at once; freed tensors and those from before are not counted."""
    before = torch.zeros(1 << 18)

    def work() -> torch.Tensor:
        for _ in range(5):
            tensor = before + 1
            tensor = tensor * 2
        return tensor.view(-1)[:4].clone()

    result, peak = memory_profiler.peak_bytes(work, on_cuda=False)
    assert result.tolist() == [2.0] * 4
    assert 2 << 20 <= peak < 3.5 * (1 << 20)
