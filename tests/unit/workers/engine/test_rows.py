"""Rows: which calls may share a forward, and that stacking and cutting undo each other."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from transformers.modeling_outputs import BaseModelOutput

from workers.engine import rows
from workers.engine.rows import Call, ForwardOptions, ModuleMethod


def echo(sample: Any, timestep: Any = None, *rest: Any, **options: Any) -> Any:
    """Stand in for a module: give back what came in."""
    return sample, timestep, rest, options


ECHO = ModuleMethod.of("model.echo", "denoiser", echo)


def call(*args: Any, **kwargs: Any) -> Call:
    """Bind a call of `echo`."""
    return Call.bind(ECHO, args, kwargs)


def test_calls_that_differ_in_rows_alone_share() -> None:
    """Values, number of rows and timesteps of any type do not stand in the way."""
    one = call(torch.zeros(1, 4), torch.tensor(999), condition={"text": torch.zeros(1, 3)})
    two = call(torch.ones(2, 4), torch.tensor(0.5), condition={"text": torch.ones(2, 3)})
    three = call(torch.ones(3, 4), timestep=7, condition={"text": torch.ones(3, 3)})
    assert one.signature == two.signature == three.signature


@pytest.mark.parametrize(
    "other",
    [
        call(torch.zeros(1, 5), 1, flag=True),
        call(torch.zeros(1, 4, dtype=torch.float64), 1, flag=True),
        call(torch.zeros(1, 4), 1, flag=1),
        call(torch.zeros(1, 4), 1, flag=None),
        call(torch.zeros(1, 4), 1),
        call(torch.zeros(1, 4), None, flag=True),
        call(torch.zeros(1, 4), 1, flag=True, extra={"a": torch.zeros(1)}),
        Call.bind(
            ModuleMethod.of("other.echo", "denoiser", echo), (torch.zeros(1, 4), 1), {"flag": True}
        ),
    ],
)
def test_calls_that_differ_otherwise_do_not_share(other: Call) -> None:
    """Shape, dtype, shared arguments, their types and the module each split a group."""
    assert call(torch.zeros(1, 4), 1, flag=True).signature != other.signature


def test_what_a_job_asks_of_the_module_splits_a_group() -> None:
    """The LoRAs with their scales count where a module wears them, reproducible mode everywhere."""
    denoiser = ModuleMethod.of("model.unet", "denoiser", echo, activate=lambda _: None)

    def key(method: ModuleMethod, **scope: Any) -> Any:
        return Call.bind(method, (torch.zeros(1, 4),), {}, ForwardOptions(**scope)).signature

    worn = [(), (("x", 1.0),), (("x", 0.5),), (("x", 1.0), ("y", 1.0))]
    assert len({key(denoiser, loras=loras) for loras in worn}) == len(worn)
    assert len({key(ECHO, loras=loras) for loras in worn}) == 1
    assert key(ECHO) != key(ECHO, reproducible=True)


def test_calls_of_a_lone_module_have_one_key() -> None:
    """Admission keeps its jobs apart; what their calls take is learned as for any other."""
    lone = ModuleMethod.of("model.unet", "denoiser", echo, unbatched=True)
    calls = [Call.bind(lone, (torch.zeros(1, 4),), {}) for _ in range(2)]
    assert calls[0].signature == calls[1].signature


def test_shared_tensors_are_compared_by_value() -> None:
    """Positions without rows split a group when they differ, even if as long as the rows."""
    same = [call(torch.zeros(3, 4), 1, img_ids=torch.arange(3)) for _ in range(2)]
    other = call(torch.zeros(3, 4), 1, img_ids=torch.arange(3) + 1)
    assert same[0].signature == same[1].signature != other.signature
    assert torch.equal(rows.run(same)[0][3]["img_ids"], torch.arange(3))


def test_an_edit_in_place_is_seen() -> None:
    """A shared tensor's remembered digest does not outlive its values."""
    ids = torch.arange(3)
    before = call(torch.zeros(2, 4), 1, img_ids=ids).signature
    ids += 1
    assert call(torch.zeros(2, 4), 1, img_ids=ids).signature != before


def test_what_cannot_be_compared_ties_a_call_to_its_job() -> None:
    """Two generators are never taken for one."""
    first, second = (call(torch.zeros(1, 4), 1, generator=torch.Generator()) for _ in range(2))
    assert first.signature != second.signature


def test_each_row_gets_its_own_timestep() -> None:
    """Timesteps are stacked with their rows, as float32."""
    calls = [call(torch.zeros(2, 4), torch.tensor(10)), call(torch.zeros(1, 4), 5.5)]
    seen: list[torch.Tensor] = []

    def spy(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        seen.append(timestep)
        return sample

    method = ModuleMethod.of("model.spy", "denoiser", spy)
    for one in calls:
        one.method = method
    rows.run(calls)
    assert torch.equal(seen[0], torch.tensor([10.0, 10.0, 5.5]))


def test_every_kind_of_result_is_cut_row_by_row() -> None:
    """Tuples, dicts, model outputs with nested tuples and distributions go to their callers."""

    def module(sample: torch.Tensor) -> Any:
        return BaseModelOutput(last_hidden_state=sample, hidden_states=(sample + 1, sample + 2))

    method = ModuleMethod.of("model.module", "encoder", module)
    calls = [Call.bind(method, (torch.full((n, 2), float(n)),), {}) for n in (1, 2, 3)]
    for n, result in zip((1, 2, 3), rows.run(calls), strict=True):
        assert isinstance(result, BaseModelOutput)
        assert torch.equal(result[0], torch.full((n, 2), float(n)))
        assert torch.equal(result.hidden_states[1], torch.full((n, 2), float(n + 2)))
        assert result.attentions is None


def test_a_distribution_is_cut_by_its_parameters() -> None:
    """An encoder's distribution gives each caller its own mean."""
    parameters = torch.arange(24.0).reshape(3, 4, 1, 2)

    def encode(_: torch.Tensor) -> Any:
        return {"latent_dist": DiagonalGaussianDistribution(parameters)}

    method = ModuleMethod.of("model.encode", "encoder", encode)
    calls = [Call.bind(method, (torch.zeros(n, 1),), {}) for n in (1, 2)]
    first, second = (result["latent_dist"] for result in rows.run(calls))
    assert torch.equal(first.mean, parameters[:1, :2])
    assert torch.equal(second.mean, parameters[1:, :2])


def test_a_call_without_tensors_runs() -> None:
    """Nothing to stack is one row."""
    lone = call("text", None)
    assert lone.rows == 1
    assert rows.run([lone])[0][0] == "text"


def test_splitting_and_joining_give_the_whole_again() -> None:
    """Halves of a call, run apart and joined, equal the call run whole."""
    whole = call(torch.arange(10.0).reshape(5, 2), torch.arange(5), options=[torch.arange(5)])
    halves = whole.split()
    assert [half.rows for half in halves] == [2, 3]
    joined = rows.join([rows.run([half])[0] for half in halves], [2, 3])
    expected = rows.run([whole])[0]
    assert torch.equal(joined[0], expected[0])
    assert torch.equal(joined[1], expected[1])
    assert torch.equal(joined[3]["options"][0], expected[3]["options"][0])


def test_other_mappings_keep_their_type() -> None:
    """A tree is rebuilt of the same types."""
    tree = OrderedDict(a=[torch.zeros(1)], b=("x", None))
    built = rows.map_tensors(lambda name, tensor: (name, tensor.shape), tree)
    assert built == OrderedDict(a=[("a", torch.Size([1]))], b=("x", None))
    assert type(built) is OrderedDict


def test_what_wears_loras_is_not_filled_up() -> None:
    """It is not compiled, so it would only be slower."""
    seen: list[int] = []

    def look(sample: torch.Tensor) -> torch.Tensor:
        seen.append(len(sample))
        return sample

    method = ModuleMethod.of("model.unet", "denoiser", look, bucketed=True, activate=lambda _: None)
    for loras in ((), (("ink", 1.0),)):
        call = Call.bind(method, (torch.ones(5, 2),), {}, ForwardOptions(loras=loras))
        assert len(rows.run([call])[0]) == 5
        assert call.plain is not bool(loras)
    assert seen == [8, 5]


@pytest.mark.parametrize(
    ("options", "alike"),
    [
        ({}, {5}),
        ({"captured": True}, {5}),
        ({"bucketed": True}, {5, 6, 7, 8}),
        ({"bucketed": True, "unbatched": True}, {5}),
    ],
)
def test_sizes_are_alike_where_they_are_filled_up_to_the_same(
    options: dict[str, bool], alike: set[int]
) -> None:
    """Only then has a forward of one of them compiled or recorded what another needs."""
    sizes = ModuleMethod.of("model.unet", "denoiser", echo, **options).same_bucket(5)
    assert {rows for rows in range(1, 33) if rows in sizes} == alike
