"""ModelSwapper: offloads models to the host's memory and loads them back onto the device."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

import torch

from workers.engine.memory import to_evict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

# The most of the budget that weights may take; the rest is for forwards. A larger model is still
# served, as the only one on the device.
WEIGHTS_SHARE = 0.8


class Movable(Protocol):
    """Weights that can move between devices: see `Weights`."""

    @property
    def size_bytes(self) -> int:
        """The memory that they take."""

    def move(self, device: str) -> None:
        """Move them to a device."""

    def free_scratch(self) -> None:
        """Free memory besides the weights that can be filled again, such as CUDA graphs."""


class Weights:
    """The modules of one model, which move together.

    `free_scratch` drops whatever depends on the weights' addresses; it runs before each move.
    """

    def __init__(
        self, modules: Iterable[torch.nn.Module], free_scratch: Callable[[], None] = lambda: None
    ) -> None:
        self._modules, self._free_scratch = list(modules), free_scratch

    @property
    def size_bytes(self) -> int:
        """Bytes of all parameters and buffers, LoRAs included; shared storages count once."""
        storages = {
            storage.data_ptr(): storage.nbytes()
            for module in self._modules
            for tensor in (*module.parameters(), *module.buffers())
            if (storage := tensor.untyped_storage()).nbytes()
        }
        return sum(storages.values())

    def move(self, device: str) -> None:
        """Move every module to a device."""
        self._free_scratch()
        for module in self._modules:
            module.to(device)

    def free_scratch(self) -> None:
        """Free the captured CUDA graphs."""
        self._free_scratch()


class ModelSwapper:
    """Moves models between the device and the host, the least recently used one first.

    `budget_bytes` is the device's memory for weights and forwards; None means no limit. Only the
    thread that owns the device may use the swapper, so no model is moved twice at once.
    """

    def __init__(self, device: str, budget_bytes: int | None = None) -> None:
        self._device = device
        self._budget_bytes = budget_bytes
        self._models: dict[str, Movable] = {}
        self._sizes: dict[str, int] = {}
        self._resident: OrderedDict[str, None] = OrderedDict()
        self.moves = 0

    def add(self, name: str, weights: Movable) -> None:
        """Register a model, which must be in the host's memory."""
        self._models[name] = weights
        self._sizes[name] = weights.size_bytes

    @property
    def resident(self) -> list[str]:
        """The models on the device, the least recently used one first."""
        return list(self._resident)

    @property
    def free_bytes(self) -> int | None:
        """The part of the budget without weights; None without a budget."""
        if self._budget_bytes is None:
            return None
        return self._budget_bytes - sum(self._sizes[name] for name in self._resident)

    def ensure_on_device(self, name: str, busy: Collection[str] = ()) -> bool:
        """Load a model onto the device; False if the `busy` models leave no room for it.

        An unregistered model is assumed to be on the device.
        """
        if name not in self._models or name in self._resident:
            if name in self._resident:
                self._resident.move_to_end(name)
            return True
        evicted = self._to_evict(name, busy)
        if evicted is None:
            return False
        for other in evicted:
            self._models[other].move("cpu")
            del self._resident[other]
            self._sizes[other] = self._models[other].size_bytes  # it may have loaded LoRAs
        for other in self._resident:
            self._models[other].free_scratch()
        if self._device != "cpu":
            torch.cuda.empty_cache()
        self._models[name].move(self._device)
        self._resident[name] = None
        self.moves += 1
        return True

    def _to_evict(self, name: str, busy: Collection[str]) -> list[str] | None:
        if self._budget_bytes is None:
            return []
        idle = [(other, self._sizes[other]) for other in self._resident if other not in busy]
        resident_bytes = sum(self._sizes[other] for other in self._resident)
        free_bytes = int(self._budget_bytes * WEIGHTS_SHARE) - resident_bytes
        evicted = to_evict(self._sizes[name], free_bytes, idle)
        if evicted is None and len(idle) == len(self._resident):
            return [other for other, _ in idle]
        return evicted
