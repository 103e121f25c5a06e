"""CudaGraphs: which calls may share a capture; `tests/gpu` tests the capture itself."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from workers.pipelines.cuda_graphs import CudaGraphs, Uncapturable, capture_key


def call(**arguments: Any) -> Any:
    """Return the key of a call."""
    return capture_key(arguments)[0]


def test_calls_that_differ_only_in_tensor_values_share_a_capture() -> None:
    """Values are copied in; everything else selects the kernels."""
    one, other = torch.zeros(2, 3), torch.ones(2, 3)
    assert call(x=one, scale=2.0) == call(x=other, scale=2.0)


@pytest.mark.parametrize(
    "other",
    [
        {"x": torch.zeros(3, 3), "scale": 2.0},
        {"x": torch.zeros(2, 3, dtype=torch.float16), "scale": 2.0},
        {"x": torch.zeros(3, 2).T, "scale": 2.0},
        {"x": torch.zeros(2, 3), "scale": 3.0},
        {"x": torch.zeros(2, 3), "scale": 2},
        {"x": (torch.zeros(2, 3),), "scale": 2.0},
        {"x": None, "scale": 2.0},
        {"y": torch.zeros(2, 3), "scale": 2.0},
    ],
)
def test_calls_that_differ_otherwise_do_not_share_a_capture(other: dict[str, Any]) -> None:
    """Shape, dtype, layout, position in the tree, and all values except tensors must be equal."""
    assert call(x=torch.zeros(2, 3), scale=2.0) != call(**other)


def test_tensors_have_a_fixed_order() -> None:
    """From anywhere in the tree, each tensor is copied to the input that the capture reads."""
    tree = {"a": [torch.tensor(1.0), {"b": torch.tensor(2.0)}], "c": torch.tensor(3.0)}
    assert [float(tensor) for tensor in capture_key(tree)[1]] == [1.0, 2.0, 3.0]


def test_calls_with_stateful_arguments_are_not_captured() -> None:
    """A generator has state, so the call runs without a capture."""
    with pytest.raises(Uncapturable):
        call(generator=torch.Generator())
    draw = CudaGraphs(lambda generator: torch.rand(1, generator=generator))
    assert draw(torch.Generator().manual_seed(1)) == draw(torch.Generator().manual_seed(1))


def test_outside_cuda_the_module_itself_is_called() -> None:
    """The signature, the arguments and the result are those of the module."""
    module = torch.nn.Linear(3, 2)
    graphs = CudaGraphs(module)
    sample = torch.ones(1, 3)
    assert torch.equal(graphs(sample), module(sample))
    assert inspect.signature(graphs) == inspect.signature(module.forward)
