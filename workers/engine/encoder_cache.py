"""EncoderCache: an LRU cache of embeddings, the results of the text and image encoders.

Prompts repeat, and negative prompts repeat even more.
"""

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
    """Results of encoder calls by their exact arguments, evicted least recently used first.

    `limit_bytes` bounds the cached tensors, which stay on their device; 0 switches the cache off.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._results: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, call: Call) -> Any:
        """Return a copy of the cached result of `call`, or None."""
        if not self._accepts(call):
            return None
        key = rows.exact_key(call)
        if key not in self._results:
            return None
        self._results.move_to_end(key)
        try:
            return _copy(self._results[key][0])
        except torch.OutOfMemoryError:
            self.clear()
            return None

    def put(self, call: Call, result: Any) -> None:
        """Cache the result of `call` if it comes from an encoder and fits."""
        if not self._accepts(call):
            return
        key = rows.exact_key(call)
        if key in self._results:
            return
        size_bytes = _bytes(result)
        if size_bytes > self._limit_bytes:
            return
        try:
            self._results[key] = _copy(result), size_bytes
        except torch.OutOfMemoryError:
            self.clear()  # forwards need the memory more
            return
        self._size_bytes += size_bytes
        while self._size_bytes > self._limit_bytes:
            self._size_bytes -= self._results.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Remove all results and free their memory on the device."""
        self._results.clear()
        self._size_bytes = 0

    def _accepts(self, call: Call) -> bool:
        return self._limit_bytes > 0 and call.method.role == "encoder"


def _copy(result: Any) -> Any:
    """Copy a result: a view would hold the whole batch, and jobs may edit what they receive."""
    return rows.map_tensors(lambda _, tensor: tensor.clone(), result)


def _bytes(result: Any) -> int:
    sizes: list[int] = []

    def count(_: str, tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    rows.map_tensors(count, result)
    return sum(sizes)
