"""Graphs: a module's forwards as CUDA graphs, recorded once for each size and replayed after that.

A forward of a large UNet is thousands of kernels, and launching them one by one takes Python longer than the
device needs to run them, as long as few rows share it. A recorded forward is one launch. Nothing is
compiled: recording takes as long as a few forwards. A replay reads the addresses that it was recorded
with, so inputs are copied in, results copied out, and all records go when the weights move.

See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from workers.engine import faults
from workers.engine.rows import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# Sizes of pictures times numbers of rows; each holds its inputs, its results and its launches.
KEPT = 64
WARM = 2


class Unrecordable(Exception):
    """A call that no record can stand for."""


@dataclass(slots=True, eq=False)
class _Record:
    """A recorded forward, the tensors that it reads and those that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    results: Any

    def replay(self, tensors: list[torch.Tensor]) -> Any:
        torch._foreach_copy_(self.inputs, tensors)  # one launch for all of them
        self.graph.replay()
        return apply(lambda _, tensor: tensor.clone(), self.results)


class Graphs:
    """Stands for `function`: a module, or one of its methods.

    Calls with tensors elsewhere than on CUDA run as they always did, and so do those for which
    `plainly` says yes, and those that CUDA refuses to record.
    """

    def __init__(
        self, function: Callable[..., Any], plainly: Callable[[], bool] = lambda: False
    ) -> None:
        self._function, self._plainly = function, plainly
        forward = function.forward if isinstance(function, torch.nn.Module) else function
        self.__signature__ = inspect.signature(forward)
        self._records: OrderedDict[Hashable, _Record | None] = OrderedDict()
        self._pool: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay the forward; record it first if there is no record of its size."""
        arguments = {"args": args, "kwargs": kwargs}
        try:
            key, tensors = described(arguments)
        except Unrecordable:
            return self._function(*args, **kwargs)
        if self._plainly() or not (tensors and all(tensor.is_cuda for tensor in tensors)):
            return self._function(*args, **kwargs)
        if key not in self._records:
            self._records[key] = self._record(arguments)
        self._records.move_to_end(key)
        while len(self._records) > KEPT:
            self._records.popitem(last=False)
        record = self._records[key]
        return self._function(*args, **kwargs) if record is None else record.replay(tensors)

    def forget(self) -> None:
        """Let all records go, and the memory they hold: their addresses are about to change."""
        self._records.clear()
        self._pool = None

    def _record(self, arguments: dict[str, Any]) -> _Record | None:
        """Run on a stream of its own to warm up, then record; None if it can't be recorded."""
        kept = apply(lambda _, tensor: tensor.clone(), arguments)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self._function(*kept["args"], **kept["kwargs"])
        torch.cuda.current_stream().wait_stream(side)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            # All records of a module share their scratch memory: one runs at a time.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                results = self._function(*kept["args"], **kept["kwargs"])
        except RuntimeError as error:
            if faults.out_of_memory(error):
                raise
            return None
        return _Record(graph, described(kept)[1], results)


def described(tree: Any) -> tuple[Hashable, list[torch.Tensor]]:
    """Return a key that is equal for calls that one record can stand for, and the tensors in their order."""
    tensors: list[torch.Tensor] = []
    return _described(tree, tensors), tensors


def _described(value: Any, tensors: list[torch.Tensor]) -> Hashable:
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return tuple(value.shape), value.stride(), value.dtype, value.device
    if isinstance(value, Mapping):
        return "map", tuple((key, _described(part, tensors)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(_described(part, tensors) for part in value)
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return type(value), value
    raise Unrecordable(f"a {type(value).__name__} may be another one next time")
