"""CUDA graphs: a module's forwards, captured once for each size and then replayed.

A forward of a large UNet is thousands of kernels. With few rows, Python needs longer to launch them
than the device needs to run them. A captured forward is one launch. Nothing is compiled: a capture
takes as long as a few forwards. A replay reads the addresses of its capture, so inputs are copied
in, results copied out, and all captures are freed when the weights move. Their memory is in no
budget, so all captures of a model are also freed when memory runs out.

See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from workers.engine import faults
from workers.engine.rows import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

# Sizes of pictures times numbers of rows; each holds its inputs, its results and its launches.
KEPT = 128
WARM = 2
log = logging.getLogger(__name__)


class UncapturableCall(Exception):
    """A call that cannot be captured."""


@dataclass(slots=True, eq=False)
class _Record:
    """A captured forward, the tensors that it reads and those that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    results: Any

    def replay(self, tensors: list[torch.Tensor]) -> Any:
        torch._foreach_copy_(self.inputs, tensors)  # one launch for all of them
        self.graph.replay()
        return apply(lambda _, tensor: tensor.clone(), self.results)


class CudaGraphs:
    """Replaces `function`: a module, or one of its methods.

    Calls with tensors that are not on CUDA run uncaptured, and so do calls that CUDA refuses to
    capture. `on_out_of_memory` is called when memory runs out.
    """

    def __init__(
        self, function: Callable[..., Any], on_out_of_memory: Callable[[], None] = lambda: None
    ) -> None:
        self._function, self._on_out_of_memory = function, on_out_of_memory
        forward = function.forward if isinstance(function, torch.nn.Module) else function
        self.__signature__ = inspect.signature(forward)
        self._captures: OrderedDict[Hashable, _Record | None] = OrderedDict()
        self._pool: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay the forward; capture it first if its size is new."""
        arguments = {"args": args, "kwargs": kwargs}
        try:
            key, tensors = described(arguments)
        except UncapturableCall:
            return self._function(*args, **kwargs)
        if not (tensors and all(tensor.is_cuda for tensor in tensors)):
            return self._function(*args, **kwargs)
        try:
            record = self._capture(key, arguments)
            return self._function(*args, **kwargs) if record is None else record.replay(tensors)
        except RuntimeError as error:
            if faults.out_of_memory(error):
                self._on_out_of_memory()
            raise

    def forget(self) -> None:
        """Free all captures and their memory."""
        self._captures.clear()
        self._pool = None

    def _capture(self, key: Hashable, arguments: dict[str, Any]) -> _Record | None:
        """Return the capture of this size, made now if it is new; None if it cannot be made."""
        if key not in self._captures:
            self._captures[key] = self._made_if_it_fits(arguments)
        self._captures.move_to_end(key)
        while len(self._captures) > KEPT:
            self._captures.popitem(last=False)
        return self._captures[key]

    def _made_if_it_fits(self, arguments: dict[str, Any]) -> _Record | None:
        """Capture.

        Return None if the capture, which needs more memory than a run, runs out of it.
        """
        try:
            return self._made(arguments)
        except RuntimeError as error:
            if not faults.out_of_memory(error):
                raise
        self._on_out_of_memory()
        torch.cuda.empty_cache()
        return None

    def _made(self, arguments: dict[str, Any]) -> _Record | None:
        kept = apply(lambda _, tensor: tensor.clone(), arguments)
        stream = torch.cuda.current_stream()
        side = _side(stream.device_index)
        side.wait_stream(stream)
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self._function(*kept["args"], **kept["kwargs"])
        stream.wait_stream(side)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            with _own_workspaces(), torch.cuda.graph(
                # All captures of a module share their scratch memory: one runs at a time.
                graph, pool=self._pool, capture_error_mode="thread_local"
            ):  # fmt: skip
                results = self._function(*kept["args"], **kept["kwargs"])
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # a failed capture may not restore this
            self._pool = None  # its part of the pool is in an undefined state
            if faults.out_of_memory(error):
                raise
            log.warning("capture_failed: the forward runs uncaptured: %s", error)
            return None
        return _Record(graph, described(kept)[1], results)


@functools.cache
def _side(device: int) -> Any:
    """The stream on which all forwards warm up."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _own_workspaces() -> Iterator[None]:
    """Make cuBLAS allocate its scratch memory again, inside the capture and after it.

    Captures share a stream, and so would share its workspace: the first capture that is freed would
    free it under the others. `torch._inductor.cudagraph_trees.clear_cublas_manager` does the same.
    """
    torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001


def described(tree: Any) -> tuple[Hashable, list[torch.Tensor]]:
    """Return a key that is equal for calls with the same capture, and the tensors in order."""
    tensors: list[torch.Tensor] = []
    return _described(tree, tensors), tensors


def _described(value: Any, tensors: list[torch.Tensor]) -> Hashable:
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return tuple(value.shape), _layout(value), value.dtype, value.device
    if isinstance(value, Mapping):
        return "map", tuple((key, _described(part, tensors)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(_described(part, tensors) for part in value)
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return type(value), value
    raise UncapturableCall(f"a {type(value).__name__} may be another one next time")


def _layout(tensor: torch.Tensor) -> Hashable:
    """Return how the copy of a tensor that a capture reads lies in memory."""
    if tensor.is_contiguous() or 0 in tensor.stride():  # one value for many rows
        return "contiguous"
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return "channels last"
    return tensor.stride()
