"""Encoder cache: prompt embeddings and encoded pictures, because prompts often repeat."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from workers.engine import rows

if TYPE_CHECKING:
    from collections.abc import Hashable

    from workers.engine.rows import Call

LIMIT_BYTES = 256 * 2**20


class EncoderCache:
    """Results of encoder calls by their exact arguments; the least recently used are dropped first.

    `limit_bytes` limits the tensors held, which stay on their device; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._results: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, call: Call) -> Any:
        """Return a copy of the known result of `call`, or None."""
        if not self._takes(call):
            return None
        key = rows.exact(call)
        if key not in self._results:
            return None
        self._results.move_to_end(key)
        try:
            return _copy(self._results[key][0])
        except torch.OutOfMemoryError:
            self.clear()
            return None

    def put(self, call: Call, result: Any) -> None:
        """Keep the result of `call`, if results of this kind are kept."""
        if not self._takes(call):
            return
        key = rows.exact(call)
        if key in self._results:
            return
        size_bytes = _bytes(result)
        if size_bytes > self._limit_bytes:
            return
        try:
            self._results[key] = _copy(result), size_bytes
        except torch.OutOfMemoryError:
            self.clear()  # other uses need the memory more
            return
        self._held_bytes += size_bytes
        while self._held_bytes > self._limit_bytes:
            self._held_bytes -= self._results.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Drop all results, which frees their memory on the device."""
        self._results.clear()
        self._held_bytes = 0

    def _takes(self, call: Call) -> bool:
        return self._limit_bytes > 0 and call.method.role == "encoder"


def _copy(result: Any) -> Any:
    """Copy, so that the batch's memory is freed and one job's edits do not reach another."""
    return rows.apply(lambda _, tensor: tensor.clone(), result)


def _bytes(result: Any) -> int:
    sizes: list[int] = []

    def count(_: str, tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    rows.apply(count, result)
    return sum(sizes)
