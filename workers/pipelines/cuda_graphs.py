"""CudaGraphs: captures a module's forward as a CUDA graph for each size, and replays it later.

A forward of a large UNet is thousands of kernels. For few rows, Python takes longer to launch them
one by one than the device takes to run them; a replay is one launch. Nothing is compiled: a capture
takes as long as a few forwards. A replay reads the captured addresses, so inputs are copied in,
results are copied out, and all captures are dropped when the weights move. Captures hold memory
that no budget counts, so all captures of a model are also dropped when memory runs out.

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
from workers.engine.rows import map_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

# The most captures of a module, one per picture size and number of rows. Each holds its inputs, its
# results and its launches.
MAX_CAPTURES = 128
WARM_UP_RUNS = 2
log = logging.getLogger(__name__)


class Uncapturable(Exception):
    """A call that no capture can replace."""


@dataclass(slots=True, eq=False)
class _Capture:
    """A captured forward, the tensors that it reads and those that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    results: Any

    def replay(self, tensors: list[torch.Tensor]) -> Any:
        torch._foreach_copy_(self.inputs, tensors)  # one launch for all of them
        self.graph.replay()
        return map_tensors(lambda _, tensor: tensor.clone(), self.results)


class CudaGraphs:
    """Replaces `function`, which is a module or one of its methods.

    Calls with tensors outside CUDA run as before, and so do calls that CUDA cannot capture.
    `on_out_of_memory` is called when memory runs out.
    """

    def __init__(
        self, function: Callable[..., Any], on_out_of_memory: Callable[[], None] = lambda: None
    ) -> None:
        self._function, self._on_out_of_memory = function, on_out_of_memory
        forward = function.forward if isinstance(function, torch.nn.Module) else function
        self.__signature__ = inspect.signature(forward)
        self._captures: OrderedDict[Hashable, _Capture | None] = OrderedDict()
        self._pool: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay the forward; capture it first if it is the first of its size."""
        arguments = {"args": args, "kwargs": kwargs}
        try:
            key, tensors = capture_key(arguments)
        except Uncapturable:
            return self._function(*args, **kwargs)
        if not (tensors and all(tensor.is_cuda for tensor in tensors)):
            return self._function(*args, **kwargs)
        try:
            capture = self._captured(key, arguments)
            return self._function(*args, **kwargs) if capture is None else capture.replay(tensors)
        except RuntimeError as error:
            if faults.out_of_memory(error):
                self._on_out_of_memory()
            raise

    def clear(self) -> None:
        """Drop all captures and free their memory."""
        self._captures.clear()
        self._pool = None

    def _captured(self, key: Hashable, arguments: dict[str, Any]) -> _Capture | None:
        """Return the capture of this size, made now if it is new; None if CUDA cannot make it."""
        if key not in self._captures:
            self._captures[key] = self._capture_if_it_fits(arguments)
        self._captures.move_to_end(key)
        while len(self._captures) > MAX_CAPTURES:
            self._captures.popitem(last=False)
        return self._captures[key]

    def _capture_if_it_fits(self, arguments: dict[str, Any]) -> _Capture | None:
        """Return a new capture, which needs more memory than a run; None if memory runs out."""
        try:
            return self._capture(arguments)
        except RuntimeError as error:
            if not faults.out_of_memory(error):
                raise
        self._on_out_of_memory()
        torch.cuda.empty_cache()
        return None

    def _capture(self, arguments: dict[str, Any]) -> _Capture | None:
        inputs = map_tensors(lambda _, tensor: tensor.clone(), arguments)
        stream = torch.cuda.current_stream()
        side = _warm_up_stream(stream.device_index)
        side.wait_stream(stream)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                self._function(*inputs["args"], **inputs["kwargs"])
        stream.wait_stream(side)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            with _own_workspaces(), torch.cuda.graph(
                # All captures of a module share their scratch memory, because one runs at a time.
                graph, pool=self._pool, capture_error_mode="thread_local"
            ):  # fmt: skip
                results = self._function(*inputs["args"], **inputs["kwargs"])
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # a failed capture may leave another one
            self._pool = None  # the failed capture may have left it in a bad state
            if faults.out_of_memory(error):
                raise
            log.warning("capture_failed: the forward runs uncaptured: %s", error)
            return None
        return _Capture(graph, capture_key(inputs)[1], results)


@functools.cache
def _warm_up_stream(device: int) -> Any:
    """Return the stream on which all forwards warm up."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _own_workspaces() -> Iterator[None]:
    """Make cuBLAS allocate a new workspace inside the capture, and another one after it.

    Captures share a stream and therefore its workspace, and the first dropped capture would free it
    for all. `torch._inductor.cudagraph_trees.clear_cublas_manager` does the same.
    """
    torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001


def capture_key(tree: Any) -> tuple[Hashable, list[torch.Tensor]]:
    """Return a key that is equal for calls that can share a capture, and the tensors in order."""
    tensors: list[torch.Tensor] = []
    return _key(tree, tensors), tensors


def _key(value: Any, tensors: list[torch.Tensor]) -> Hashable:
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return tuple(value.shape), _layout(value), value.dtype, value.device
    if isinstance(value, Mapping):
        return "map", tuple((key, _key(part, tensors)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(_key(part, tensors) for part in value)
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return type(value), value
    raise Uncapturable(f"a {type(value).__name__} may differ in the next call")


def _layout(tensor: torch.Tensor) -> Hashable:
    """Return the memory layout of the copy that a capture reads."""
    if tensor.is_contiguous() or 0 in tensor.stride():  # an expanded tensor
        return "contiguous"
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return "channels last"
    return tensor.stride()
