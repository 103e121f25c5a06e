"""Memory profiler: the peak memory of a forward above what was allocated before it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

if TYPE_CHECKING:
    from collections.abc import Callable


def peak_bytes(work: Callable[[], Any], *, on_cuda: bool) -> tuple[Any, int]:
    """Run `work`; return its result, and the bytes of its peak.

    On CUDA the allocator's statistics give the peak at no cost. Elsewhere every new tensor is
    counted as long as it lives, which slows this one forward down; memory inside operators is not
    seen.
    """
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        return result, torch.cuda.max_memory_allocated() - before
    with AllocationTracker() as tally:
        result = work()
    return result, tally.peak


class AllocationTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operators allocate, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        tree_map_only(torch.Tensor, self._was_there, (args, kwargs))
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._made, result)
        return result

    def _was_there(self, tensor: torch.Tensor) -> None:
        """Register a storage that is not the forward's own: a weight, an input."""
        self._note(tensor, counted=False)

    def _made(self, tensor: torch.Tensor) -> None:
        """Count a new storage."""
        self._note(tensor, counted=True)

    def _note(self, tensor: torch.Tensor, *, counted: bool) -> None:
        storage = tensor.untyped_storage()
        place = id(storage)
        if place in self._known:
            return
        size = storage.nbytes() if counted else 0

        def freed(_: Any) -> None:
            self._known.pop(place, None)
            self._live -= size

        self._known[place] = weakref.ref(storage, freed)
        self._live += size
        self.peak = max(self.peak, self._live)
