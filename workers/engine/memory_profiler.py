"""Memory profiler: the peak memory that a forward adds to what was allocated before it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

if TYPE_CHECKING:
    from collections.abc import Callable


def peak_bytes(work: Callable[[], Any], *, on_cuda: bool) -> tuple[Any, int]:
    """Run `work`; return its result and the bytes of its peak.

    On CUDA the allocator knows the peak, at no cost. Elsewhere the profiler counts each new tensor
    until it is freed, which slows this one forward down. It does not see memory inside operators.
    """
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        return result, torch.cuda.max_memory_allocated() - before
    with AllocationTracker() as tracker:
        result = work()
    return result, tracker.peak_bytes


class AllocationTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operators allocate, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._live_bytes = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        tree_map_only(torch.Tensor, self._ignore, (args, kwargs))
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._count, result)
        return result

    def _ignore(self, tensor: torch.Tensor) -> None:
        """Track a storage that existed before the forward, such as a weight or an input."""
        self._track(tensor, counted=False)

    def _count(self, tensor: torch.Tensor) -> None:
        """Track a storage that the operator allocated."""
        self._track(tensor, counted=True)

    def _track(self, tensor: torch.Tensor, *, counted: bool) -> None:
        storage = tensor.untyped_storage()
        address = id(storage)
        if address in self._known:
            return
        size_bytes = storage.nbytes() if counted else 0

        def on_free(_: Any) -> None:
            self._known.pop(address, None)
            self._live_bytes -= size_bytes

        self._known[address] = weakref.ref(storage, on_free)
        self._live_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
