"""What a recorded forward may stand for; recording itself is tried in `tests/gpu`."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from workers.pipelines.cuda_graphs import CudaGraphs, Uncapturable, capture_key


def call(**arguments: Any) -> Any:
    """Describe a call."""
    return capture_key(arguments)[0]


def test_calls_that_differ_in_values_of_tensors_alone_share_a_record() -> None:
    """They are copied in; everything else decides which kernels run."""
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
def test_calls_that_differ_otherwise_do_not(other: dict[str, Any]) -> None:
    """Shape, format, layout, place in the tree, and whatever is no tensor."""
    assert call(x=torch.zeros(2, 3), scale=2.0) != call(**other)


def test_tensors_come_in_one_order() -> None:
    """Wherever they are in the tree, the copy goes to the place that the record reads."""
    tree = {"a": [torch.tensor(1.0), {"b": torch.tensor(2.0)}], "c": torch.tensor(3.0)}
    assert [float(tensor) for tensor in capture_key(tree)[1]] == [1.0, 2.0, 3.0]


def test_what_may_be_another_thing_next_time_is_not_recorded() -> None:
    """A generator has a state of its own; the call runs as it always did."""
    with pytest.raises(Uncapturable):
        call(generator=torch.Generator())
    drawn = CudaGraphs(lambda generator: torch.rand(1, generator=generator))
    assert drawn(torch.Generator().manual_seed(1)) == drawn(torch.Generator().manual_seed(1))


def test_elsewhere_than_on_cuda_the_module_itself_is_called() -> None:
    """With its own signature, its arguments and its result."""
    module = torch.nn.Linear(3, 2)
    graphs = CudaGraphs(module)
    given = torch.ones(1, 3)
    assert torch.equal(graphs(given), module(given))
    assert inspect.signature(graphs) == inspect.signature(module.forward)
