"""Rows: which calls may share a forward, and how rows are batched and split."""

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
    """Replace a module: return the arguments."""
    return sample, timestep, rest, options


ECHO = ModuleMethod.of("model.echo", "denoiser", echo)


def call(*args: Any, **kwargs: Any) -> Call:
    """Return a call of `echo`."""
    return Call.bind(ECHO, args, kwargs)


def test_calls_that_differ_only_in_their_rows_share() -> None:
    """Values, numbers of rows and timesteps of any type may differ."""
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
    """Shape, dtype, shared arguments, their types and the module must be equal."""
    assert call(torch.zeros(1, 4), 1, flag=True).signature != other.signature


def test_calls_with_other_options_do_not_share() -> None:
    """LoRAs and scales count if the module can activate them; reproducible mode always counts."""
    denoiser = ModuleMethod.of("model.unet", "denoiser", echo, activate=lambda _: None)

    def key(method: ModuleMethod, **options: Any) -> Any:
        return Call.bind(method, (torch.zeros(1, 4),), {}, ForwardOptions(**options)).signature

    lora_sets = [(), (("x", 1.0),), (("x", 0.5),), (("x", 1.0), ("y", 1.0))]
    assert len({key(denoiser, loras=loras) for loras in lora_sets}) == len(lora_sets)
    assert len({key(ECHO, loras=loras) for loras in lora_sets}) == 1
    assert key(ECHO) != key(ECHO, reproducible=True)


def test_calls_of_an_unbatched_method_have_one_key() -> None:
    """Admission separates its jobs; their calls share one estimate of T(rows)."""
    unbatched = ModuleMethod.of("model.unet", "denoiser", echo, unbatched=True)
    calls = [Call.bind(unbatched, (torch.zeros(1, 4),), {}) for _ in range(2)]
    assert calls[0].signature == calls[1].signature


def test_shared_tensors_are_compared_by_value() -> None:
    """Position ids must be equal, even if their length equals the number of rows."""
    same = [call(torch.zeros(3, 4), 1, img_ids=torch.arange(3)) for _ in range(2)]
    other = call(torch.zeros(3, 4), 1, img_ids=torch.arange(3) + 1)
    assert same[0].signature == same[1].signature != other.signature
    assert torch.equal(rows.run(same)[0][3]["img_ids"], torch.arange(3))


def test_an_edit_in_place_is_seen() -> None:
    """The cached digest of a shared tensor is updated with its values."""
    ids = torch.arange(3)
    before = call(torch.zeros(2, 4), 1, img_ids=ids).signature
    ids += 1
    assert call(torch.zeros(2, 4), 1, img_ids=ids).signature != before


def test_calls_with_values_that_cannot_be_compared_do_not_share() -> None:
    """Two generators are never equal."""
    first, second = (call(torch.zeros(1, 4), 1, generator=torch.Generator()) for _ in range(2))
    assert first.signature != second.signature


def test_each_row_gets_its_own_timestep() -> None:
    """Timesteps are batched with their rows, as float32."""
    calls = [call(torch.zeros(2, 4), torch.tensor(10)), call(torch.zeros(1, 4), 5.5)]
    timesteps: list[torch.Tensor] = []

    def spy(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        timesteps.append(timestep)
        return sample

    method = ModuleMethod.of("model.spy", "denoiser", spy)
    for one in calls:
        one.method = method
    rows.run(calls)
    assert torch.equal(timesteps[0], torch.tensor([10.0, 10.0, 5.5]))


def test_every_kind_of_result_is_split_by_rows() -> None:
    """Model outputs with nested tuples are split, and keep their type."""

    def module(sample: torch.Tensor) -> Any:
        return BaseModelOutput(last_hidden_state=sample, hidden_states=(sample + 1, sample + 2))

    method = ModuleMethod.of("model.module", "encoder", module)
    calls = [Call.bind(method, (torch.full((n, 2), float(n)),), {}) for n in (1, 2, 3)]
    for n, result in zip((1, 2, 3), rows.run(calls), strict=True):
        assert isinstance(result, BaseModelOutput)
        assert torch.equal(result[0], torch.full((n, 2), float(n)))
        assert torch.equal(result.hidden_states[1], torch.full((n, 2), float(n + 2)))
        assert result.attentions is None


def test_a_distribution_is_split_by_its_parameters() -> None:
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
    """A call without tensors counts as one row."""
    unbatched = call("text", None)
    assert unbatched.rows == 1
    assert rows.run([unbatched])[0][0] == "text"


def test_split_and_join_are_inverse() -> None:
    """The joined results of a call's halves equal the result of the whole call."""
    whole = call(torch.arange(10.0).reshape(5, 2), torch.arange(5), options=[torch.arange(5)])
    halves = whole.split()
    assert [half.rows for half in halves] == [2, 3]
    joined = rows.join([rows.run([half])[0] for half in halves], [2, 3])
    expected = rows.run([whole])[0]
    assert torch.equal(joined[0], expected[0])
    assert torch.equal(joined[1], expected[1])
    assert torch.equal(joined[3]["options"][0], expected[3]["options"][0])


def test_other_mappings_keep_their_type() -> None:
    """A tree is rebuilt with the same types."""
    tree = OrderedDict(a=[torch.zeros(1)], b=("x", None))
    built = rows.map_tensors(lambda name, tensor: (name, tensor.shape), tree)
    assert built == OrderedDict(a=[("a", torch.Size([1]))], b=("x", None))
    assert type(built) is OrderedDict


def test_calls_with_loras_are_not_padded() -> None:
    """They are not compiled, so padding would only cost time."""
    sizes: list[int] = []

    def spy(sample: torch.Tensor) -> torch.Tensor:
        sizes.append(len(sample))
        return sample

    method = ModuleMethod.of("model.unet", "denoiser", spy, bucketed=True, activate=lambda _: None)
    for loras in ((), (("ink", 1.0),)):
        call = Call.bind(method, (torch.ones(5, 2),), {}, ForwardOptions(loras=loras))
        assert len(rows.run([call])[0]) == 5
        assert call.plain is not bool(loras)
    assert sizes == [8, 5]


@pytest.mark.parametrize(
    ("options", "bucket"),
    [
        ({}, {5}),
        ({"captured": True}, {5}),
        ({"bucketed": True}, {5, 6, 7, 8}),
        ({"bucketed": True, "unbatched": True}, {5}),
    ],
)
def test_sizes_share_a_bucket_only_if_they_are_padded(
    options: dict[str, bool], bucket: set[int]
) -> None:
    """Only then does one compiled or captured forward serve all sizes of the bucket."""
    sizes = ModuleMethod.of("model.unet", "denoiser", echo, **options).same_bucket(5)
    assert {rows for rows in range(1, 33) if rows in sizes} == bucket
